// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches, as a stream of accesses sees them.  A line that misses a level is
 * looked for in the next, and put into every level that it missed.  For LRU
 * alone no level depends on those behind it: then they run one after another,
 * a batch at a time, each over what the one before it missed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "arch.h"
#include "cachesim.h"

#ifdef PB_X86_VECTORS
#include <emmintrin.h>
#endif

/* What is fetched ahead stays in its 4-KiB frame, as hardware does. */
#define FRAME_LINES (4096u >> PB_LINE_SHIFT)

/* A stride is believed when it comes the second time in a row. */
#define STEADY	  1

#define SITES	  256

#define HOST_LINE 64
/* What the host can map by one entry. */
#define HUGE (2u << 20)

static uint64_t line_of(uint64_t access)
{
	return access & PB_LINE_MASK;
}

static uint32_t class_of(uint64_t access)
{
	return access >> PB_CLASS_SHIFT & (PB_ACCESS_CLASSES - 1);
}

static uint8_t hash_of(uint64_t access)
{
	return (uint8_t)(access >> PB_HASH_SHIFT);
}

static bool is_power_of_two(uint32_t n)
{
	return n && !(n & (n - 1));
}

static int check_geometry(const struct pb_cachesim_geometry *geometry)
{
	if (!geometry->levels || geometry->levels > PB_CACHE_LEVELS)
		return -EINVAL;
	for (uint32_t i = 0; i < geometry->levels; i++) {
		const struct pb_cache *cache = &geometry->cache[i];

		if (!cache->sets || cache->sets > PB_CACHE_SETS)
			return -EINVAL;
		if (!cache->ways || cache->ways > PB_CACHE_WAYS)
			return -EINVAL;
		if (cache->policy > PB_POLICY_RANDOM ||
		    cache->prefetch > PB_PREFETCH_STRIDE)
			return -EINVAL;
		if (cache->policy == PB_POLICY_PLRU &&
		    !is_power_of_two(cache->ways))
			return -EINVAL;
	}
	return 0;
}

/*
 * The oldest of a full set goes, and the rest move down, be it by nothing: hit
 * or miss is a matter of where the tag was.
 */
static size_t run_lru(struct pb_level *level, const uint64_t *accesses,
		      size_t n, uint64_t *missed)
{
	const uint32_t last = level->ways - 1;
	size_t misses = 0;

	for (size_t i = 0; i < n; i++) {
		struct pb_place place =
			pb_place_of(level, line_of(accesses[i]));
		uint32_t *tags = pb_set_tags(level, place.set);
		uint32_t carried = tags[0], way = 0;

		if (carried == place.tag)
			continue;
		/* Moves them down as it looks. */
		tags[0] = place.tag;
		while (way < last) {
			uint32_t tag = tags[++way];

			tags[way] = carried;
			carried = tag;
			if (tag == place.tag)
				break;
		}
		missed[misses] = accesses[i];
		misses += carried != place.tag;
	}
	return misses;
}

/* Every node on the way down to a way is to point to its other side. */
static void point_nodes(struct pb_level *level)
{
	for (uint32_t way = 0; way < level->ways; way++) {
		uint32_t node = 1;

		for (uint32_t half = level->ways / 2; half; half /= 2) {
			uint32_t upper = !!(way & half);

			level->above[way] |= 1u << node;
			level->away[way] |= !upper << node;
			node = 2 * node + upper;
		}
	}
}

static int level_init(struct pb_level *level, const struct pb_cache *cache,
		      bool predicts_ways)
{
	size_t bytes = (size_t)cache->sets * PB_CACHE_WAYS * sizeof(uint32_t);
	bool is_huge = bytes >= HUGE;
	void *tags;
	int err;

	level->sets = cache->sets;
	level->ways = cache->ways;
	level->policy = cache->policy;
	level->prefetch = cache->prefetch;
	level->run = run_lru;
	if (is_power_of_two(cache->sets))
		level->shift = (uint32_t)__builtin_ctz(cache->sets);
	else
		level->reciprocal = UINT64_MAX / cache->sets + 1;
	err = pb_reserve(bytes, is_huge ? HUGE : HOST_LINE,
			 is_huge ? PB_BACKING_2M : PB_BACKING_4K, &tags);
	if (err)
		return err;
	memset(tags, 0xff, bytes);
	level->tags = tags;
	if (cache->policy == PB_POLICY_PLRU) {
		level->trees = calloc(cache->sets, sizeof(*level->trees));
		if (!level->trees)
			return -ENOMEM;
		point_nodes(level);
	}
	if (cache->prefetch == PB_PREFETCH_STRIDE) {
		level->strides = calloc(SITES, sizeof(*level->strides));
		if (!level->strides)
			return -ENOMEM;
	}
	if (predicts_ways) {
		level->hashes = calloc(cache->sets, PB_CACHE_WAYS);
		if (!level->hashes)
			return -ENOMEM;
	}
	return 0;
}

static void level_deinit(struct pb_level *level)
{
	if (level->tags)
		pb_unreserve(level->tags);
	free(level->trees);
	free(level->strides);
	free(level->hashes);
}

void pb_cachesim_destroy(struct pb_cachesim *sim)
{
	if (!sim)
		return;
	for (uint32_t i = 0; i < sim->levels; i++)
		level_deinit(&sim->level[i]);
	pb_tlbs_deinit(sim);
	free(sim);
}

/*
 * Nothing is cached.  EINVAL for what cannot be, ENOMEM for what is too much,
 * EOPNOTSUPP for instructions that this machine does not have.
 */
int pb_cachesim_create(const struct pb_cachesim_geometry *geometry,
		       uint32_t simd, struct pb_cachesim **ret)
{
	struct pb_cachesim *sim;
	int err = check_geometry(geometry);

	if (err)
		return err;
	if (simd > PB_SIMD_AVX512)
		return -EINVAL;
	if (simd > PB_SIMD_BEST && simd > pb_simd_best())
		return -EOPNOTSUPP;
	sim = calloc(1, sizeof(*sim));
	if (!sim)
		return -ENOMEM;
	sim->levels = geometry->levels;
	sim->inclusive = geometry->inclusive;
	sim->batched = !geometry->inclusive;
	sim->simd = simd == PB_SIMD_BEST ? pb_simd_best() : simd;
	sim->count = sim->simd ? pb_count_simd() : pb_count_plain;
	sim->lines = PB_LINE_MASK + 1;
	for (uint32_t i = 0; i < sim->levels; i++) {
		const struct pb_cache *cache = &geometry->cache[i];
		struct pb_level *level = &sim->level[i];
		uint64_t lines = (uint64_t)cache->sets * PB_NO_TAG;

		err = level_init(level, cache, !i && geometry->way_predictor);
		if (err)
			goto failed;
		if (lines < sim->lines)
			sim->lines = lines;
		if (cache->policy != PB_POLICY_LRU ||
		    cache->prefetch != PB_PREFETCH_NONE)
			sim->batched = false;
		if (sim->simd)
			pb_level_use_simd(level, sim->simd);
	}
	err = pb_tlbs_init(sim, geometry);
	if (err)
		goto failed;
	*ret = sim;
	return 0;
failed:
	pb_cachesim_destroy(sim);
	return err;
}

uint32_t pb_cachesim_simd(const struct pb_cachesim *sim)
{
	return sim->batched ? sim->simd : PB_SIMD_NONE;
}

bool pb_count_plain(const uint64_t *accesses, size_t n, uint64_t lines,
		    uint64_t *counts)
{
	uint64_t below_zero = 0;

	while (n) {
		size_t part = n < UINT8_MAX ? n : UINT8_MAX;
		uint64_t bytes = 0; /* a counter for each class */

		for (size_t i = 0; i < part; i++) {
			bytes += 1ULL << (8 * class_of(accesses[i]));
			below_zero |= lines - 1 - line_of(accesses[i]);
		}
		for (uint32_t i = 0; i < PB_ACCESS_CLASSES; i++)
			counts[i] += bytes >> (8 * i) & UINT8_MAX;
		accesses += part;
		n -= part;
	}
	return !(below_zero >> 63);
}

/* Where a line is, or would be, in one level. */
struct slot {
	struct pb_level *level;
	struct pb_place place;
	uint32_t *tags;
};

static struct slot slot_of(struct pb_level *level, uint64_t line)
{
	struct slot slot = { level, pb_place_of(level, line), NULL };

	slot.tags = pb_set_tags(level, slot.place.set);
	return slot;
}

/* A bit for each way that has the tag. */
static uint32_t ways_of(const struct slot *slot, uint32_t tag)
{
	uint32_t found = 0;

#ifdef PB_X86_VECTORS
	const __m128i *tags = (const __m128i *)slot->tags;
	const __m128i wanted = _mm_set1_epi32((int)tag);

	for (uint32_t i = 0; i < PB_CACHE_WAYS / 4; i++) {
		__m128i lanes = _mm_cmpeq_epi32(tags[i], wanted);

		found |= (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(lanes))
			 << 4 * i;
	}
#else
	for (uint32_t way = 0; way < PB_CACHE_WAYS; way++)
		found |= (uint32_t)(slot->tags[way] == tag) << way;
#endif
	return found & ((1u << slot->level->ways) - 1);
}

static int way_of(const struct slot *slot)
{
	uint32_t found = ways_of(slot, slot->place.tag);

	return found ? __builtin_ctz(found) : -1;
}

static uint8_t *hashes_of(const struct slot *slot)
{
	return slot->level->hashes + (slot->tags - slot->level->tags);
}

/*
 * What is before @way moves down over it, and @tag takes the front.  How far
 * differs from access to access: a branch on it, as in memmove(), is a guess.
 */
static void move_tags(uint32_t *tags, uint32_t way, uint32_t tag)
{
#ifdef PB_X86_VECTORS
	const __m128i end = _mm_set1_epi32((int)way + 1);
	__m128i lane = _mm_setr_epi32(0, 1, 2, 3);
	__m128i before = _mm_cvtsi32_si128((int)tag);

	for (uint32_t i = 0; i < PB_CACHE_WAYS; i += 4) {
		__m128i *at = (__m128i *)(tags + i), old = *at;
		__m128i new = _mm_or_si128(_mm_slli_si128(old, 4), before);
		__m128i moves = _mm_cmplt_epi32(lane, end);

		before = _mm_srli_si128(old, 12);
		*at = _mm_or_si128(_mm_and_si128(moves, new),
				   _mm_andnot_si128(moves, old));
		lane = _mm_add_epi32(lane, _mm_set1_epi32(4));
	}
#else
	memmove(tags + 1, tags, way * sizeof(*tags));
	tags[0] = tag;
#endif
}

static void move_hashes(uint8_t *hashes, uint32_t way, uint8_t hash)
{
#ifdef PB_X86_VECTORS
	const __m128i lane = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
					   12, 13, 14, 15);
	__m128i moves = _mm_cmplt_epi8(lane, _mm_set1_epi8((char)(way + 1)));
	__m128i old = _mm_loadu_si128((__m128i *)hashes);
	__m128i new =
		_mm_or_si128(_mm_slli_si128(old, 1), _mm_cvtsi32_si128(hash));

	_mm_storeu_si128((__m128i *)hashes,
			 _mm_or_si128(_mm_and_si128(moves, new),
				      _mm_andnot_si128(moves, old)));
#else
	memmove(hashes + 1, hashes, way);
	hashes[0] = hash;
#endif
}

static void move_to_front(const struct slot *slot, uint32_t way, uint8_t hash)
{
	move_tags(slot->tags, way, slot->place.tag);
	if (slot->level->hashes)
		move_hashes(hashes_of(slot), way, hash);
}

/* LRU with a way predictor: what level->run() is to those without. */
static size_t run_predicted(struct pb_level *level, const uint64_t *accesses,
			    size_t n, uint64_t *missed, uint8_t *outcome,
			    uint64_t *aliases)
{
	size_t misses = 0;

	for (size_t i = 0; i < n; i++) {
		struct slot slot = slot_of(level, line_of(accesses[i]));
		uint8_t hash = hash_of(accesses[i]);
		int way = way_of(&slot);

		if (way < 0) {
			missed[misses++] = accesses[i];
			way = (int)level->ways - 1;
		} else if (hashes_of(&slot)[way] != hash) {
			aliases[class_of(accesses[i])]++;
			if (outcome)
				outcome[i] = PB_OUTCOME_ALIAS;
		}
		move_to_front(&slot, (uint32_t)way, hash);
	}
	return misses;
}

/*
 * For outcomes, accesses get their places in the batch, where nobody but a
 * prefetcher looks: what a level missed is known by them.
 */
#define NUMBER_MASK (0xffULL << PB_SITE_SHIFT | 0xfULL << 60)

static const uint64_t *number(struct pb_cachesim *sim, const uint64_t *accesses,
			      size_t n)
{
	_Static_assert(PB_BATCH <= 1 << 12, "a place takes more bits");
	for (size_t i = 0; i < n; i++)
		sim->numbered[i] = (accesses[i] & ~NUMBER_MASK) |
				   (i & 0xff) << PB_SITE_SHIFT | i >> 8 << 60;
	return sim->numbered;
}

static size_t number_of(uint64_t access)
{
	return (access >> PB_SITE_SHIFT & 0xff) | access >> 60 << 8;
}

static void run_batch(struct pb_cachesim *sim, const uint64_t *accesses,
		      size_t n, uint8_t *outcome,
		      struct pb_cache_counts *counts)
{
	if (outcome) {
		accesses = number(sim, accesses, n);
		memset(outcome, 0, n);
	}
	for (uint32_t i = 0; i < sim->levels && n; i++) {
		struct pb_level *level = &sim->level[i];
		uint64_t *missed = sim->missed[i % 2];

		if (level->hashes)
			n = run_predicted(level, accesses, n, missed, outcome,
					  counts->aliases);
		else
			n = level->run(level, accesses, n, missed);
		accesses = missed;
		sim->count(missed, n, sim->lines, counts->misses[i]);
		for (size_t j = 0; outcome && j < n; j++)
			outcome[number_of(missed[j])] = (uint8_t)(i + 1);
	}
}

static void point_away(const struct slot *slot, uint32_t way)
{
	uint16_t *tree = &slot->level->trees[slot->place.set];

	*tree = (*tree & ~slot->level->above[way]) | slot->level->away[way];
}

static uint32_t pointed_to(const struct slot *slot)
{
	uint32_t tree = slot->level->trees[slot->place.set], node = 1;

	while (node < slot->level->ways)
		node = 2 * node + (tree >> node & 1);
	return node - slot->level->ways;
}

/* Knuth's MMIX generator, its upper half scaled down: the same in every run. */
static uint32_t draw_way(struct pb_level *level)
{
	level->drawn =
		level->drawn * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((level->drawn >> 32) * level->ways >> 32);
}

static void touch(const struct slot *slot, uint32_t way, uint8_t hash)
{
	switch (slot->level->policy) {
	case PB_POLICY_LRU:
		move_to_front(slot, way, hash);
		return;
	case PB_POLICY_PLRU:
		point_away(slot, way);
		break;
	}
	if (slot->level->hashes)
		hashes_of(slot)[way] = hash;
}

/* Puts the line in, and returns the tag of the one that had to go. */
static uint32_t fill(const struct slot *slot, uint8_t hash)
{
	struct pb_level *level = slot->level;
	uint32_t way = level->ways - 1, gone;

	if (level->policy != PB_POLICY_LRU) {
		uint32_t empty = ways_of(slot, PB_NO_TAG);

		if (empty)
			way = (uint32_t)__builtin_ctz(empty);
		else if (level->policy == PB_POLICY_PLRU)
			way = pointed_to(slot);
		else
			way = draw_way(level);
	}
	gone = slot->tags[way];
	/* For LRU it comes with the move, which would wait for a store. */
	if (level->policy != PB_POLICY_LRU)
		slot->tags[way] = slot->place.tag;
	touch(slot, way, hash);
	return gone;
}

static void drop(struct pb_level *level, uint64_t line)
{
	struct slot slot = slot_of(level, line);
	int found = way_of(&slot);
	uint32_t way = (uint32_t)found, last = level->ways - 1;

	if (found < 0)
		return;
	if (level->policy == PB_POLICY_LRU) {
		memmove(slot.tags + way, slot.tags + way + 1,
			(last - way) * sizeof(*slot.tags));
		if (level->hashes) {
			uint8_t *hashes = hashes_of(&slot);

			memmove(hashes + way, hashes + way + 1, last - way);
		}
		way = last;
	}
	slot.tags[way] = PB_NO_TAG;
}

/*
 * An access at a time, for whatever lets one level depend on another.  Looks
 * for a line from level @from on, and fills those that it is not in, the last
 * first: what an inclusive one turns out makes room in the others.  Returns the
 * level that had it, or their number.
 */
static uint32_t load(struct pb_cachesim *sim, uint64_t access, uint32_t from,
		     bool *alias)
{
	struct slot slots[PB_CACHE_LEVELS];
	uint8_t hash = hash_of(access);
	uint32_t had = from;

	for (; had < sim->levels; had++) {
		struct slot *slot = &slots[had];
		int way;

		*slot = slot_of(&sim->level[had], line_of(access));
		way = way_of(slot);
		if (way < 0)
			continue;
		if (slot->level->hashes)
			*alias = hashes_of(slot)[way] != hash;
		touch(slot, (uint32_t)way, hash);
		break;
	}
	for (uint32_t i = had; i-- > from;) {
		uint32_t gone = fill(&slots[i], hash);

		if (!sim->inclusive || i != sim->levels - 1 ||
		    gone == PB_NO_TAG)
			continue;
		for (uint32_t j = 0; j < i; j++)
			drop(&sim->level[j],
			     (uint64_t)gone * sim->level[i].sets +
				     slots[i].place.set);
	}
	return had;
}

/* Into @level and those behind it, unless it is there or in another frame. */
static void fetch_ahead(struct pb_cachesim *sim, uint32_t level,
			uint64_t access, int64_t distance,
			struct pb_cache_counts *counts)
{
	uint64_t line = line_of(access), ahead = line + (uint64_t)distance;
	struct slot slot;
	bool alias;

	if (ahead / FRAME_LINES != line / FRAME_LINES || ahead >= sim->lines)
		return;
	slot = slot_of(&sim->level[level], ahead);
	if (way_of(&slot) >= 0)
		return;
	/* The way predictor's hash is the frame's, so the same. */
	load(sim, (access & ~PB_LINE_MASK) | ahead, level, &alias);
	counts->prefetches++;
}

/* How far ahead the site's next line is; 0 where that is not known. */
static int64_t distance_of(struct pb_stride *strides, uint64_t access)
{
	struct pb_stride *site =
		&strides[access >> PB_SITE_SHIFT & (SITES - 1)];
	int64_t stride = (int64_t)(line_of(access) - site->line);

	if (!stride)
		return 0;
	site->line = line_of(access);
	if (stride != site->stride) {
		site->stride = stride;
		site->repeats = 0;
		return 0;
	}
	if (site->repeats < STEADY)
		site->repeats++;
	return site->repeats >= STEADY ? stride : 0;
}

/* Each level's prefetcher sees what the level saw, page walks left out. */
static void prefetch(struct pb_cachesim *sim, uint64_t access, uint32_t had,
		     struct pb_cache_counts *counts)
{
	if (class_of(access) == PB_ACCESS_WALK)
		return;
	for (uint32_t i = 0; i < sim->levels && i <= had; i++) {
		struct pb_level *level = &sim->level[i];
		int64_t distance = 0;

		if (level->prefetch == PB_PREFETCH_NEXT_LINE)
			distance = i < had;
		else if (level->strides)
			distance = distance_of(level->strides, access);
		if (distance)
			fetch_ahead(sim, i, access, distance, counts);
	}
}

static void run_each(struct pb_cachesim *sim, const uint64_t *accesses,
		     size_t n, uint8_t *outcome, struct pb_cache_counts *counts)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t class = class_of(accesses[i]);
		bool alias = false;
		uint32_t had = load(sim, accesses[i], 0, &alias);

		for (uint32_t j = 0; j < had; j++)
			counts->misses[j][class]++;
		counts->aliases[class] += alias;
		if (outcome)
			outcome[i] =
				(uint8_t)(had | (alias ? PB_OUTCOME_ALIAS : 0));
		prefetch(sim, accesses[i], had, counts);
	}
}

/*
 * ERANGE where the caches are so small that a line's tag is above 32 bits; what
 * came before, in batches, is done then.
 */
int pb_cachesim_run(struct pb_cachesim *sim, const uint64_t *accesses, size_t n,
		    uint8_t *outcome, struct pb_cache_counts *ret)
{
	while (n) {
		size_t part = n < PB_BATCH ? n : PB_BATCH;

		uint64_t classes[PB_ACCESS_CLASSES] = { 0 };

		if (!sim->count(accesses, part, sim->lines, classes))
			return -ERANGE;
		for (uint32_t i = 0; i < PB_ACCESS_CLASSES; i++)
			ret->accesses[i] += classes[i];
		if (sim->batched)
			run_batch(sim, accesses, part, outcome, ret);
		else
			run_each(sim, accesses, part, outcome, ret);
		accesses += part;
		outcome += outcome ? part : 0;
		n -= part;
	}
	return 0;
}

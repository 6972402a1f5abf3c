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

#include "cachesim_slot.h"

#define HOST_LINE 64
/* What the host can map by one entry. */
#define HUGE (2u << 20)

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
			pb_place_of(level, pb_line_of(accesses[i]));
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
		level->strides =
			calloc(PB_STRIDE_SITES, sizeof(*level->strides));
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
			bytes += 1ULL << (8 * pb_class_of(accesses[i]));
			below_zero |= lines - 1 - pb_line_of(accesses[i]);
		}
		for (uint32_t i = 0; i < PB_ACCESS_CLASSES; i++)
			counts[i] += bytes >> (8 * i) & UINT8_MAX;
		accesses += part;
		n -= part;
	}
	return !(below_zero >> 63);
}

/* LRU with a way predictor: what level->run() is to those without. */
static size_t run_predicted(struct pb_level *level, const uint64_t *accesses,
			    size_t n, uint64_t *missed, uint8_t *outcome,
			    uint64_t *aliases)
{
	size_t misses = 0;

	for (size_t i = 0; i < n; i++) {
		struct pb_slot slot =
			pb_slot_of(level, pb_line_of(accesses[i]));
		uint8_t hash = pb_hash_of(accesses[i]);
		int way = pb_way_of(&slot);

		if (way < 0) {
			missed[misses++] = accesses[i];
			way = (int)level->ways - 1;
		} else if (pb_hashes_of(&slot)[way] != hash) {
			aliases[pb_class_of(accesses[i])]++;
			if (outcome)
				outcome[i] = PB_OUTCOME_ALIAS;
		}
		pb_move_to_front(&slot, (uint32_t)way, hash);
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
			pb_cachesim_run_each(sim, accesses, part, outcome, ret);
		accesses += part;
		outcome += outcome ? part : 0;
		n -= part;
	}
	return 0;
}

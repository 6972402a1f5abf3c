// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches, an access at a time: for policies that are not LRU, inclusion and
 * prefetching, where one level depends on those behind it.
 */
#include "cachesim_slot.h"

/* What is fetched ahead stays in its 4-KiB frame, as hardware does. */
#define FRAME_LINES (4096u >> PB_LINE_SHIFT)

/* A stride is believed when it comes the second time in a row. */
#define STEADY 1

static void point_away(const struct pb_slot *slot, uint32_t way)
{
	uint16_t *tree = &slot->level->trees[slot->place.set];

	*tree = (*tree & ~slot->level->above[way]) | slot->level->away[way];
}

static uint32_t pointed_to(const struct pb_slot *slot)
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

static void touch(const struct pb_slot *slot, uint32_t way, uint8_t hash)
{
	switch (slot->level->policy) {
	case PB_POLICY_LRU:
		pb_move_to_front(slot, way, hash);
		return;
	case PB_POLICY_PLRU:
		point_away(slot, way);
		break;
	}
	if (slot->level->hashes)
		pb_hashes_of(slot)[way] = hash;
}

/* Puts the line in, and returns the tag of the one that had to go. */
static uint32_t fill(const struct pb_slot *slot, uint8_t hash)
{
	struct pb_level *level = slot->level;
	uint32_t way = level->ways - 1, gone;

	if (level->policy != PB_POLICY_LRU) {
		uint32_t empty = pb_ways_of(slot, PB_NO_TAG);

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
	struct pb_slot slot = pb_slot_of(level, line);
	int found = pb_way_of(&slot);
	uint32_t way = (uint32_t)found, last = level->ways - 1;

	if (found < 0)
		return;
	if (level->policy == PB_POLICY_LRU) {
		memmove(slot.tags + way, slot.tags + way + 1,
			(last - way) * sizeof(*slot.tags));
		if (level->hashes) {
			uint8_t *hashes = pb_hashes_of(&slot);

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
	struct pb_slot slots[PB_CACHE_LEVELS];
	uint8_t hash = pb_hash_of(access);
	uint32_t had = from;

	for (; had < sim->levels; had++) {
		struct pb_slot *slot = &slots[had];
		int way;

		*slot = pb_slot_of(&sim->level[had], pb_line_of(access));
		way = pb_way_of(slot);
		if (way < 0)
			continue;
		if (slot->level->hashes)
			*alias = pb_hashes_of(slot)[way] != hash;
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
	uint64_t line = pb_line_of(access), ahead = line + (uint64_t)distance;
	struct pb_slot slot;
	bool alias;

	if (ahead / FRAME_LINES != line / FRAME_LINES || ahead >= sim->lines)
		return;
	slot = pb_slot_of(&sim->level[level], ahead);
	if (pb_way_of(&slot) >= 0)
		return;
	/* The way predictor's hash is the frame's, so the same. */
	load(sim, (access & ~PB_LINE_MASK) | ahead, level, &alias);
	counts->prefetches++;
}

/* How far ahead the site's next line is; 0 where that is not known. */
static int64_t distance_of(struct pb_stride *strides, uint64_t access)
{
	struct pb_stride *site =
		&strides[access >> PB_SITE_SHIFT & (PB_STRIDE_SITES - 1)];
	int64_t stride = (int64_t)(pb_line_of(access) - site->line);

	if (!stride)
		return 0;
	site->line = pb_line_of(access);
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
	if (pb_class_of(access) == PB_ACCESS_WALK)
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

void pb_cachesim_run_each(struct pb_cachesim *sim, const uint64_t *accesses,
			  size_t n, uint8_t *outcome,
			  struct pb_cache_counts *counts)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t class = pb_class_of(accesses[i]);
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

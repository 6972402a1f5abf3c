/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the cache simulator share: how accesses and records are
 * packed, and a level's state.
 */
#ifndef PAGEBENCH_CACHESIM_H
#define PAGEBENCH_CACHESIM_H

#include <stdbool.h>

#include "pagebench.h"

enum {
	PB_LINE_SHIFT = 6,
	PB_LINE_BITS = 38, /* 16 TiB of physical memory */
	PB_HASH_SHIFT = 40,
	PB_SITE_SHIFT = 48, /* in accesses and records alike */
	PB_CLASS_SHIFT = 56,
	PB_ADDRESS_BITS = 48,
	PB_STRIDE_SITES = 256, /* as many as an access can tell */
};

#define PB_LINE_MASK   ((1ULL << PB_LINE_BITS) - 1)
#define PB_BRANCH_FLAG (1ULL << 63)

/* So few that what a level missed stays in the host's L1. */
#define PB_BATCH 1024

/* A tag that no line has. */
#define PB_NO_TAG UINT32_MAX

struct pb_level;

/* Runs n accesses, and writes those that missed to @missed: n at most. */
typedef size_t pb_level_fn(struct pb_level *level, const uint64_t *accesses,
			   size_t n, uint64_t *missed);

/*
 * Adds n accesses, PB_BATCH at most, to the counts of their classes; returns
 * whether all lines are below @lines.
 */
typedef bool pb_count_fn(const uint64_t *accesses, size_t n, uint64_t lines,
			 uint64_t *counts);

/* The last line that a site asked for, how far it was, how often so far. */
struct pb_stride {
	uint64_t line;
	int64_t stride;
	uint32_t repeats;
};

/*
 * A set is PB_CACHE_WAYS tags, one line of the host: for LRU from the most
 * recently used on, otherwise each in its way.  Ways that hold nothing have
 * PB_NO_TAG; for LRU they come last.
 */
struct pb_level {
	pb_level_fn *run;
	uint32_t *tags;
	uint64_t reciprocal; /* of sets, by 2^64; 0 for a power of two */
	uint32_t shift;
	uint32_t sets;
	uint32_t ways;
	uint32_t policy;
	uint32_t prefetch;
	uint64_t drawn;
	uint16_t *trees; /* PLRU: a set's inner nodes, the root is bit 1 */
	uint16_t above[PB_CACHE_WAYS]; /* the nodes above a way */
	uint16_t away[PB_CACHE_WAYS]; /* as they point away from it */
	uint8_t *hashes; /* beside the tags, where ways are predicted */
	struct pb_stride *strides; /* by site */
};

/*
 * An entry is in its set's ring, where each is older than the one before it,
 * and in the chain of those whose keys hash alike; 0 is no key.
 */
struct pb_tlb_entry {
	uint64_t key;
	uint32_t older;
	uint32_t newer;
	uint32_t next; /* plus one */
};

struct pb_tlb_level {
	uint32_t sets;
	uint32_t ways;
	uint32_t hash_shift;
	struct pb_tlb_entry *entries;
	uint32_t *newest; /* of each set; the oldest is newer than that */
	uint32_t *chains; /* plus one */
};

struct pb_cachesim {
	uint32_t levels;
	uint32_t inclusive;
	uint32_t batched; /* each level by itself: nothing comes back up */
	uint32_t simd;
	pb_count_fn *count;
	uint64_t lines; /* below which every line has a tag */
	struct pb_level level[PB_CACHE_LEVELS];
	struct pb_tlb_level tlb[PB_TLB_LEVELS][2]; /* 4K, 2M */
	uint32_t unified[PB_TLB_LEVELS];
	uint32_t translates;
	uint64_t missed[2][PB_BATCH];
	uint64_t numbered[PB_BATCH];
};

/* The way that holds a line: tag and set of [0, sets). */
struct pb_place {
	uint32_t set;
	uint32_t tag;
};

/*
 * floor(line / sets).  The reciprocal is above 2^64 / sets by less than 1,
 * hence the product off by less than line / 2^64 < 1 / sets.
 */
static inline struct pb_place pb_place_of(const struct pb_level *level,
					  uint64_t line)
{
	struct pb_place place;

	if (level->reciprocal)
		place.tag = (uint32_t)((unsigned __int128)line *
					       level->reciprocal >>
				       64);
	else
		place.tag = (uint32_t)(line >> level->shift);
	place.set = (uint32_t)(line - (uint64_t)place.tag * level->sets);
	return place;
}

static inline uint32_t *pb_set_tags(const struct pb_level *level, uint32_t set)
{
	return level->tags + (size_t)set * PB_CACHE_WAYS;
}

/* tlb.c */
int pb_tlbs_init(struct pb_cachesim *sim,
		 const struct pb_cachesim_geometry *geometry);
void pb_tlbs_deinit(struct pb_cachesim *sim);

/* cachesim.c */
pb_count_fn pb_count_plain;

/* cachesim_each.c */
void pb_cachesim_run_each(struct pb_cachesim *sim, const uint64_t *accesses,
			  size_t n, uint8_t *outcome,
			  struct pb_cache_counts *counts);

/* cachesim_simd.c */
uint32_t pb_simd_best(void);
void pb_level_use_simd(struct pb_level *level, uint32_t simd);
pb_count_fn *pb_count_simd(void);

#endif

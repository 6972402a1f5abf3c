/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An access taken apart, and one set of one level: where a tag is, and how it
 * gets to the front.
 */
#ifndef PAGEBENCH_CACHESIM_SLOT_H
#define PAGEBENCH_CACHESIM_SLOT_H

#include <string.h>

#include "arch.h"
#include "cachesim.h"

#ifdef PB_X86_VECTORS
#include <emmintrin.h>
#endif

static inline uint64_t pb_line_of(uint64_t access)
{
	return access & PB_LINE_MASK;
}

static inline uint32_t pb_class_of(uint64_t access)
{
	return access >> PB_CLASS_SHIFT & (PB_ACCESS_CLASSES - 1);
}

static inline uint8_t pb_hash_of(uint64_t access)
{
	return (uint8_t)(access >> PB_HASH_SHIFT);
}

/* Where a line is, or would be, in one level. */
struct pb_slot {
	struct pb_level *level;
	struct pb_place place;
	uint32_t *tags;
};

static inline struct pb_slot pb_slot_of(struct pb_level *level, uint64_t line)
{
	struct pb_slot slot = { level, pb_place_of(level, line), NULL };

	slot.tags = pb_set_tags(level, slot.place.set);
	return slot;
}

/* A bit for each way that has the tag. */
static inline uint32_t pb_ways_of(const struct pb_slot *slot, uint32_t tag)
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

static inline int pb_way_of(const struct pb_slot *slot)
{
	uint32_t found = pb_ways_of(slot, slot->place.tag);

	return found ? __builtin_ctz(found) : -1;
}

static inline uint8_t *pb_hashes_of(const struct pb_slot *slot)
{
	return slot->level->hashes + (slot->tags - slot->level->tags);
}

/*
 * What is before @way moves down over it, and @tag takes the front.  How far
 * differs from access to access: a branch on it, as in memmove(), is a guess.
 */
static inline void pb_move_tags(uint32_t *tags, uint32_t way, uint32_t tag)
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

static inline void pb_move_hashes(uint8_t *hashes, uint32_t way, uint8_t hash)
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

static inline void pb_move_to_front(const struct pb_slot *slot, uint32_t way,
				    uint8_t hash)
{
	pb_move_tags(slot->tags, way, slot->place.tag);
	if (slot->level->hashes)
		pb_move_hashes(pb_hashes_of(slot), way, hash);
}

#endif

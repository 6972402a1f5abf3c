// SPDX-License-Identifier: GPL-2.0-only
/*
 * LRU, a set at a time: all tags are compared at once, and those before the one
 * found, or before the last, move down a lane.  A hit takes the same path as a
 * miss, without a branch.
 */
#include "cachesim.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <stdbool.h>

#define AVX2	      __attribute__((target("avx2,bmi")))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Sets of so many bytes stay in the host's L1 by themselves. */
#define RESIDENT_BYTES (16u << 10)
#define LOOK_AHEAD     16

/* Lanes up to and including way p are taken from moved[PB_CACHE_WAYS - 1 - p]. */
static const int32_t moved[2 * PB_CACHE_WAYS - 1] = {
	-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

static AVX2 ALWAYS_INLINE uint32_t equal(__m256i tags, __m256i tag)
{
	__m256i lanes = _mm256_cmpeq_epi32(tags, tag);

	return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
}

static AVX2 ALWAYS_INLINE bool touch(uint32_t *tags, uint32_t tag,
				     uint32_t last, const bool wide)
{
	const __m256i down = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
	const __m256i front = _mm256_set1_epi32((int)tag);
	__m256i *low = (__m256i *)tags, *high = low + 1;
	__m256i old = _mm256_load_si256(low), old_high = old, new, new_high;
	uint32_t found = equal(old, front), way;
	const int32_t *which;

	if (wide) {
		old_high = _mm256_load_si256(high);
		found |= equal(old_high, front) << 8;
	}
	way = (uint32_t)__builtin_ctz(found | 1u << last);
	which = &moved[PB_CACHE_WAYS - 1 - way];

	new = _mm256_permutevar8x32_epi32(old, down);
	if (wide) {
		new_high = _mm256_permutevar8x32_epi32(old_high, down);
		new_high = _mm256_blend_epi32(new_high, new, 1);
		new_high = _mm256_blendv_epi8(
			old_high, new_high,
			_mm256_loadu_si256((const __m256i *)(which + 8)));
		_mm256_store_si256(high, new_high);
	}
	new = _mm256_blend_epi32(new, front, 1);
	new = _mm256_blendv_epi8(old, new,
				 _mm256_loadu_si256((const __m256i *)which));
	_mm256_store_si256(low, new);
	return found;
}

static AVX2 ALWAYS_INLINE struct pb_place
place_of(const struct pb_level *level, uint64_t access, const bool shifts)
{
	uint64_t line = access & PB_LINE_MASK;

	if (shifts)
		return (struct pb_place){
			.set = (uint32_t)line & (level->sets - 1),
			.tag = (uint32_t)(line >> level->shift),
		};
	return pb_place_of(level, line);
}

static AVX2 ALWAYS_INLINE void look_ahead(const struct pb_level *level,
					  uint64_t access, const bool shifts)
{
	struct pb_place place = place_of(level, access, shifts);

	__builtin_prefetch(pb_set_tags(level, place.set), 1);
}

static AVX2 ALWAYS_INLINE size_t run(struct pb_level *level,
				     const uint64_t *accesses, size_t n,
				     uint64_t *missed, const bool wide,
				     const bool shifts)
{
	const struct pb_level here = *level;
	size_t misses = 0, ahead = 0, i = 0;

	if ((size_t)here.sets * PB_CACHE_WAYS * sizeof(uint32_t) >
	    RESIDENT_BYTES)
		for (; ahead < LOOK_AHEAD && ahead < n; ahead++)
			look_ahead(&here, accesses[ahead], shifts);
	for (; i < n; i++) {
		struct pb_place place = place_of(&here, accesses[i], shifts);
		bool hit;

		if (ahead && i + LOOK_AHEAD < n)
			look_ahead(&here, accesses[i + LOOK_AHEAD], shifts);
		hit = touch(pb_set_tags(&here, place.set), place.tag,
			    here.ways - 1, wide);
		missed[misses] = accesses[i];
		misses += !hit;
	}
	return misses;
}

#define RUN(name, wide, shifts)                                       \
	static AVX2 size_t name(struct pb_level *level,               \
				const uint64_t *accesses, size_t n,   \
				uint64_t *missed)                     \
	{                                                             \
		return run(level, accesses, n, missed, wide, shifts); \
	}

RUN(run_8_shifts, false, true)
RUN(run_8_divides, false, false)
RUN(run_16_shifts, true, true)
RUN(run_16_divides, true, false)

pb_level_fn *pb_level_avx2(const struct pb_level *level)
{
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi"))
		return NULL;
	if (level->ways <= 8)
		return level->reciprocal ? run_8_divides : run_8_shifts;
	return level->reciprocal ? run_16_divides : run_16_shifts;
}

#else

pb_level_fn *pb_level_avx2(const struct pb_level *level)
{
	(void)level;
	return NULL;
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * LRU, a set at a time: all tags are compared at once, and those before the one
 * found, or before the last, move down a lane.  A hit takes the same path as a
 * miss, without a branch.
 */
#include "arch.h"
#include "cachesim.h"

#ifdef PB_X86_VECTORS

#include <immintrin.h>

#define AVX2	      __attribute__((target("avx2,bmi,bmi2")))
#define AVX512	      __attribute__((target("avx512f,avx512bw,bmi,bmi2")))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* So many sets, of a line each, stay in the host's L1 by themselves. */
#define RESIDENT_SETS 256
/* Others are fetched so many accesses before they are needed. */
#define LOOK_AHEAD 16

/* Sets one bit for every lane that moves down or is the front. */
static ALWAYS_INLINE uint32_t moving(uint32_t found, uint32_t last)
{
	uint32_t ends = found | 1u << last;

	return ends ^ (ends - 1);
}

/* A row by the last lane that moves: all ones in what moves. */
#define MOVED (-1)
static const int32_t moved[PB_CACHE_WAYS][PB_CACHE_WAYS]
	__attribute__((aligned(64))) = {
#define ROW(way) [way] = { [0 ... way] = MOVED }
		ROW(0),	 ROW(1),  ROW(2),  ROW(3),  ROW(4),  ROW(5),
		ROW(6),	 ROW(7),  ROW(8),  ROW(9),  ROW(10), ROW(11),
		ROW(12), ROW(13), ROW(14), ROW(15),
#undef ROW
	};

static AVX2 ALWAYS_INLINE uint32_t equal(__m256i tags, __m256i tag)
{
	__m256i lanes = _mm256_cmpeq_epi32(tags, tag);

	return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes));
}

/* Not by vpblendvb, which is three instructions in one. */
static AVX2 ALWAYS_INLINE __m256i chosen(__m256i old, __m256i new,
					 const int32_t *mask)
{
	__m256i which = _mm256_load_si256((const __m256i *)mask);

	return _mm256_xor_si256(
		old, _mm256_and_si256(_mm256_xor_si256(old, new), which));
}

static AVX2 ALWAYS_INLINE uint32_t touch_8(uint32_t *tags, uint32_t tag,
					   uint32_t last)
{
	const __m256i down = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
	const __m256i front = _mm256_set1_epi32((int)tag);
	__m256i old = _mm256_load_si256((__m256i *)tags);
	uint32_t found = equal(old, front);
	uint32_t way = (uint32_t)__builtin_ctz(found | 1u << last);
	__m256i new = _mm256_permutevar8x32_epi32(old, down);

	new = _mm256_blend_epi32(new, front, 1);
	_mm256_store_si256((__m256i *)tags, chosen(old, new, moved[way]));
	return found;
}

static AVX2 ALWAYS_INLINE uint32_t touch_16(uint32_t *tags, uint32_t tag,
					    uint32_t last)
{
	const __m256i down = _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6);
	const __m256i front = _mm256_set1_epi32((int)tag);
	__m256i *low = (__m256i *)tags, *high = low + 1;
	__m256i old_low = _mm256_load_si256(low);
	__m256i old_high = _mm256_load_si256(high);
	uint32_t found = equal(old_low, front) | equal(old_high, front) << 8;
	uint32_t way = (uint32_t)__builtin_ctz(found | 1u << last);
	__m256i new_low = _mm256_permutevar8x32_epi32(old_low, down);
	__m256i new_high = _mm256_permutevar8x32_epi32(old_high, down);

	new_high = _mm256_blend_epi32(new_high, new_low, 1);
	new_low = _mm256_blend_epi32(new_low, front, 1);
	_mm256_store_si256(low, chosen(old_low, new_low, moved[way]));
	_mm256_store_si256(high, chosen(old_high, new_high, moved[way] + 8));
	return found;
}

static AVX512 ALWAYS_INLINE uint32_t touch_512(uint32_t *tags, uint32_t tag,
					       uint32_t last)
{
	const __m512i front = _mm512_set1_epi32((int)tag);
	__m512i old = _mm512_load_si512(tags);
	uint32_t found = _mm512_cmpeq_epi32_mask(old, front);
	__mmask16 which = (__mmask16)moving(found, last);

	/* The last 15 of front, then old, from there on. */
	_mm512_store_si512(tags, _mm512_mask_alignr_epi32(old, which, old,
							  front, 15));
	return found;
}

static ALWAYS_INLINE struct pb_place
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

static ALWAYS_INLINE void look_ahead(const struct pb_level *level,
				     uint64_t access, const bool shifts)
{
	struct pb_place place = place_of(level, access, shifts);

	__builtin_prefetch(pb_set_tags(level, place.set), 1);
}

/*
 * RUN(name, TARGET, touch, shifts) becomes
 *
 *	TARGET size_t name(struct pb_level *level, const uint64_t *accesses,
 *			   size_t n, uint64_t *missed)
 *
 * for sets that are a power of two or not, and fetches the tags of sets that
 * are next where they are too many for the host's L1.
 */
#define STEP(touch, shifts)                                                   \
	do {                                                                  \
		struct pb_place place = place_of(&here, accesses[i], shifts); \
                                                                              \
		missed[misses] = accesses[i];                                 \
		misses += !touch(pb_set_tags(&here, place.set), place.tag,    \
				 last);                                       \
	} while (0)

#define RUN(name, TARGET, touch, shifts)                                    \
	static TARGET size_t name(struct pb_level *level,                   \
				  const uint64_t *accesses, size_t n,       \
				  uint64_t *missed)                         \
	{                                                                   \
		const struct pb_level here = *level;                        \
		const uint32_t last = here.ways - 1;                        \
		size_t misses = 0, i = 0;                                   \
                                                                            \
		if (n > LOOK_AHEAD && here.sets > RESIDENT_SETS) {          \
			for (size_t j = 0; j < LOOK_AHEAD; j++)             \
				look_ahead(&here, accesses[j], shifts);     \
			for (; i < n - LOOK_AHEAD; i++) {                   \
				look_ahead(&here, accesses[i + LOOK_AHEAD], \
					   shifts);                         \
				STEP(touch, shifts);                        \
			}                                                   \
		}                                                           \
		for (; i < n; i++)                                          \
			STEP(touch, shifts);                                \
		return misses;                                              \
	}

RUN(run_8_shifts, AVX2, touch_8, true)
RUN(run_8_divides, AVX2, touch_8, false)
RUN(run_16_shifts, AVX2, touch_16, true)
RUN(run_16_divides, AVX2, touch_16, false)
RUN(run_512_shifts, AVX512, touch_512, true)
RUN(run_512_divides, AVX512, touch_512, false)

/* Eight bytes in each lane, a counter for each class. */
static AVX2 bool count(const uint64_t *accesses, size_t n, uint64_t lines,
		       uint64_t *counts)
{
	const __m256i one = _mm256_set1_epi64x(1);
	const __m256i class_bits = _mm256_set1_epi64x(8 * 7);
	const __m256i line_bits = _mm256_set1_epi64x((int64_t)PB_LINE_MASK);
	const __m256i largest = _mm256_set1_epi64x((int64_t)lines - 1);
	__m256i bytes[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
	__m256i below_zero = _mm256_setzero_si256();
	uint64_t lanes[8];
	size_t i = 0;

	_Static_assert(PB_BATCH <= 8 * UINT8_MAX, "a counter is full");
	for (; i + 8 <= n; i += 8) {
		for (int half = 0; half < 2; half++) {
			__m256i access = _mm256_loadu_si256(
				(const __m256i *)(accesses + i + 4 * half));
			__m256i shift = _mm256_and_si256(
				_mm256_srli_epi64(access, PB_CLASS_SHIFT - 3),
				class_bits);

			bytes[half] = _mm256_add_epi64(
				bytes[half], _mm256_sllv_epi64(one, shift));
			below_zero = _mm256_or_si256(
				below_zero,
				_mm256_sub_epi64(largest,
						 _mm256_and_si256(access,
								  line_bits)));
		}
	}
	_mm256_storeu_si256((__m256i *)lanes, bytes[0]);
	_mm256_storeu_si256((__m256i *)(lanes + 4), bytes[1]);
	for (uint32_t lane = 0; lane < 8; lane++)
		for (uint32_t class = 0; class < PB_ACCESS_CLASSES; class++)
			counts[class] += lanes[lane] >> (8 * class) & UINT8_MAX;
	if (_mm256_movemask_pd(_mm256_castsi256_pd(below_zero)))
		return false;
	return pb_count_plain(accesses + i, n - i, lines, counts);
}

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2") &&
	       __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw");
}

uint32_t pb_simd_best(void)
{
	return has_avx512() ? PB_SIMD_AVX512
	       : has_avx2() ? PB_SIMD_AVX2
			    : PB_SIMD_NONE;
}

void pb_level_use_simd(struct pb_level *level, uint32_t simd)
{
	const bool shifts = !level->reciprocal;

	if (simd == PB_SIMD_AVX512)
		level->run = shifts ? run_512_shifts : run_512_divides;
	else if (level->ways > 8)
		level->run = shifts ? run_16_shifts : run_16_divides;
	else
		level->run = shifts ? run_8_shifts : run_8_divides;
}

pb_count_fn *pb_count_simd(void)
{
	return count;
}

#else

uint32_t pb_simd_best(void)
{
	return PB_SIMD_NONE;
}

/* Not called where there is nothing better than none. */
void pb_level_use_simd(struct pb_level *level, uint32_t simd)
{
	(void)level;
	(void)simd;
}

pb_count_fn *pb_count_simd(void)
{
	return pb_count_plain;
}

#endif

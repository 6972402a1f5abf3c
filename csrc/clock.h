/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Timestamps around a batch.  The fences keep the batch's instructions inside
 * and everybody else's outside.
 */
#ifndef PAGEBENCH_CLOCK_H
#define PAGEBENCH_CLOCK_H

#include <time.h>

#include "pagebench.h"

static inline uint64_t pb_gettime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline uint64_t pb_counter(void)
{
#if defined(__x86_64__)
	uint32_t low, high;

	__asm__ volatile("lfence\n\trdtsc\n\tlfence"
			 : "=a"(low), "=d"(high)
			 :
			 : "memory");
	return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
	uint64_t now;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb"
			 : "=r"(now)
			 :
			 : "memory");
	return now;
#endif
}

static inline uint64_t pb_clock_read(const struct pb_clock *clock)
{
	if (clock->kind == PB_CLOCK_COUNTER)
		return pb_counter();
	return pb_gettime();
}

#endif

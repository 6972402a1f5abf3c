/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Timestamps around a batch.  The counter's fences keep the batch's instructions
 * inside and everybody else's outside.
 */
#ifndef PAGEBENCH_CLOCK_H
#define PAGEBENCH_CLOCK_H

#include <time.h>

#include "arch.h"
#include "pagebench.h"

static inline uint64_t pb_gettime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline uint64_t pb_clock_read(const struct pb_clock *clock)
{
	if (clock->kind == PB_CLOCK_COUNTER)
		return pb_counter();
	return pb_gettime();
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The machine's cheapest trustworthy clock, and core cycles without a PMU.
 */
#define _GNU_SOURCE
#include <errno.h>

#include "clock.h"

/* Back-to-back reads, in runs short enough to fit between interrupts. */
#define CLOCK_READS 256
#define CLOCK_RUNS  32

uint32_t pb_clock_best(void)
{
	return pb_counter_is_usable() ? PB_CLOCK_COUNTER : PB_CLOCK_GETTIME;
}

/*
 * Spins for @calibrate_ns, which also brings the core up to speed, and sets
 * the clock's frequency, its step and what one read costs.
 */
int pb_clock_init(uint32_t kind, uint64_t calibrate_ns, struct pb_clock *ret)
{
	struct pb_clock clock = { .kind = kind, .ticks_per_ns = 1 };
	uint64_t start, first, now, last, step = UINT64_MAX, cost = UINT64_MAX;

	if (kind > PB_CLOCK_GETTIME)
		return -EINVAL;
	start = pb_gettime();
	first = pb_clock_read(&clock);
	do {
		now = pb_gettime();
		last = pb_clock_read(&clock);
	} while (now - start < calibrate_ns);
	if (kind == PB_CLOCK_COUNTER) {
		if (last <= first || now <= start)
			return -ENODEV;
		clock.ticks_per_ns =
			(double)(last - first) / (double)(now - start);
	}
	for (int run = 0; run < CLOCK_RUNS; run++) {
		first = now = pb_clock_read(&clock);
		for (int i = 0; i < CLOCK_READS; i++) {
			last = pb_clock_read(&clock);
			if (last != now && last - now < step)
				step = last - now;
			now = last;
		}
		/* The mean: a clock that moves in steps shows no single read's
		 * cost.  The least of the means: nothing interrupted it. */
		if ((now - first + CLOCK_READS / 2) / CLOCK_READS < cost)
			cost = (now - first + CLOCK_READS / 2) / CLOCK_READS;
	}
	/* Where a read costs more than the clock's step, an upper bound. */
	clock.granularity_ns = (double)step / clock.ticks_per_ns;
	clock.cost_ticks = cost;
	*ret = clock;
	return 0;
}

#define ADDS_4	PB_ADD "\n\t" PB_ADD "\n\t" PB_ADD "\n\t" PB_ADD "\n\t"
#define ADDS_16 ADDS_4 ADDS_4 ADDS_4 ADDS_4

/* @n is rounded up to a multiple of 64. */
const void *pb_core_cycles(const void *base, const uint32_t *offsets, size_t n)
{
	uintptr_t x = 0, zero = 0;

	(void)offsets;
	__asm__ volatile("" : "+r"(zero));
	for (size_t i = 0; i < n; i += 64)
		PB_ASM_ADD(ADDS_16 ADDS_16 ADDS_16 ADDS_16, x, zero);
	return (const char *)base + x;
}

int pb_cpuid_read(uint32_t leaf, uint32_t subleaf, uint32_t *ret)
{
	return pb_describe(leaf, subleaf, ret) ? 0 : -ENOENT;
}

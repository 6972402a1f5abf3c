// SPDX-License-Identifier: GPL-2.0-only
/*
 * Timed batches, in the order of a schedule, without a return to the caller.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "clock.h"

static uint64_t context_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_nvcsw + (uint64_t)usage.ru_nivcsw;
}

int pb_sampler_run(const struct pb_clock *clock, struct pb_sample *samples,
		   size_t n)
{
	uint64_t before = context_switches();

	for (size_t i = 0; i < n; i++) {
		struct pb_sample *s = &samples[i];
		uint64_t start, ticks, after;

		if (!s->lookups)
			return -EINVAL;
		if (s->warm_up)
			s->run(s->base, s->offsets, s->warm_up);
		start = pb_clock_read(clock);
		s->last = s->run(s->base, s->offsets + s->warm_up, s->lookups);
		ticks = pb_clock_read(clock) - start;
		s->ticks = ticks > clock->cost_ticks ? ticks - clock->cost_ticks
						     : 0;
		after = context_switches();
		s->switches = after - before;
		before = after;
	}
	return 0;
}

int pb_pin(uint32_t cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the PMU counts while a batch runs: one perf_event group, so that all
 * counts are of the same instructions.  See perf_event_open(2).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pagebench.h"

/* The words of a read of the group, then a value and an id for each event. */
enum { NR, TIME_ENABLED, TIME_RUNNING, VALUES };
#define GROUP_WORDS (VALUES + 2 * PB_EVENTS)

#define READ_MISS(cache)                              \
	((cache) | PERF_COUNT_HW_CACHE_OP_READ << 8 | \
	 PERF_COUNT_HW_CACHE_RESULT_MISS << 16)

/*
 * Generic names where the kernel has one meaning for them.  Not so
 * PERF_COUNT_HW_CACHE_MISSES: on AMD it counts misses of the L2.
 */
static const struct {
	uint32_t type;
	uint64_t config;
} events[PB_EVENTS] = {
	[PB_EVENT_CYCLES] = { PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES },
	[PB_EVENT_INSTRUCTIONS] = { PERF_TYPE_HARDWARE,
				    PERF_COUNT_HW_INSTRUCTIONS },
	[PB_EVENT_BRANCH_MISSES] = { PERF_TYPE_HARDWARE,
				     PERF_COUNT_HW_BRANCH_MISSES },
	[PB_EVENT_L1D_MISSES] = { PERF_TYPE_HW_CACHE,
				  READ_MISS(PERF_COUNT_HW_CACHE_L1D) },
	[PB_EVENT_LLC_MISSES] = { PERF_TYPE_HW_CACHE,
				  READ_MISS(PERF_COUNT_HW_CACHE_LL) },
	[PB_EVENT_DTLB_MISSES] = { PERF_TYPE_HW_CACHE,
				   READ_MISS(PERF_COUNT_HW_CACHE_DTLB) },
};

/* This thread on any CPU, in user space.  Members follow their leader. */
static int event_open(struct pb_counters *counters, int event)
{
	int leader = event ? counters->fd[PB_EVENT_CYCLES] : -1;
	struct perf_event_attr attr = {
		.type = events[event].type,
		.size = sizeof(attr),
		.config = events[event].config,
		.read_format = PERF_FORMAT_GROUP | PERF_FORMAT_ID |
			       PERF_FORMAT_TOTAL_TIME_ENABLED |
			       PERF_FORMAT_TOTAL_TIME_RUNNING,
		.disabled = leader < 0,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, leader,
			      PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, PERF_EVENT_IOC_ID, &counters->id[event])) {
		int err = -errno;

		close(fd);
		return err;
	}
	counters->fd[event] = fd;
	return 0;
}

static void event_close(struct pb_counters *counters, int event)
{
	if (counters->fd[event] >= 0)
		close(counters->fd[event]);
	counters->fd[event] = -1;
	counters->id[event] = 0;
}

static int last_member(const struct pb_counters *counters)
{
	int event = PB_EVENTS - 1;

	while (event && counters->fd[event] < 0)
		event--;
	return event;
}

/*
 * A group is scheduled whole or not at all, and that it could be opened does
 * not say that it fits: a counter held by the NMI watchdog is not reckoned
 * with (perf_event_open(2), BUGS).  So count something, and shed members from
 * the end until something was counted.
 */
static int shed_members(struct pb_counters *counters)
{
	uint32_t offset = 0;
	struct pb_sample trial = {
		.run = pb_core_cycles,
		.base = &offset,
		.offsets = &offset,
		.lookups = 64,
	};
	struct pb_counts counts;

	for (;;) {
		int err = pb_counters_run(counters, &trial, &counts);
		int event = last_member(counters);

		if (err || counts.running_ns)
			return err;
		if (!event)
			return -EBUSY;
		event_close(counters, event);
	}
}

/*
 * Counts the thread that calls it.  A member that the PMU refuses is left out,
 * with fd -1 and id 0.  Without cycles there is nothing: ENOENT, ENODEV or
 * EOPNOTSUPP where there is no PMU, EACCES or EPERM where it is not allowed,
 * EBUSY where the cycle counter never gets to run.
 */
int pb_counters_init(struct pb_counters *ret)
{
	struct pb_counters counters = { .id = { 0 } };
	int err;

	for (int event = 0; event < PB_EVENTS; event++)
		counters.fd[event] = -1;
	err = event_open(&counters, PB_EVENT_CYCLES);
	if (err)
		return err;
	for (int event = 1; event < PB_EVENTS; event++)
		event_open(&counters, event);
	err = shed_members(&counters);
	if (err) {
		pb_counters_deinit(&counters);
		return err;
	}
	*ret = counters;
	return 0;
}

void pb_counters_deinit(struct pb_counters *counters)
{
	for (int event = PB_EVENTS - 1; event >= 0; event--)
		event_close(counters, event);
}

static int event_of(const struct pb_counters *counters, uint64_t id)
{
	for (int event = 0; id && event < PB_EVENTS; event++)
		if (counters->id[event] == id)
			return event;
	return -EINVAL;
}

/* What would have been counted, had the group been on the PMU throughout. */
static uint64_t scaled(uint64_t value, const struct pb_counts *counts)
{
	double share;

	if (counts->running_ns >= counts->enabled_ns)
		return value;
	share = (double)counts->running_ns / (double)counts->enabled_ns;
	return (uint64_t)((double)value / share + 0.5);
}

/* Nothing is valid where the group never ran; -EINVAL for another's buffer. */
int pb_counters_parse(const struct pb_counters *counters,
		      const uint64_t *buffer, size_t words,
		      struct pb_counts *ret)
{
	struct pb_counts counts = { .valid = 0 };

	if (words < VALUES || buffer[NR] > PB_EVENTS ||
	    words != VALUES + 2 * buffer[NR])
		return -EINVAL;
	counts.enabled_ns = buffer[TIME_ENABLED];
	counts.running_ns = buffer[TIME_RUNNING];
	for (size_t i = VALUES; i < words; i += 2) {
		int event = event_of(counters, buffer[i + 1]);

		if (event < 0 || counts.valid & 1u << event)
			return -EINVAL;
		counts.valid |= 1u << event;
		if (counts.running_ns)
			counts.value[event] = scaled(buffer[i], &counts);
	}
	if (!counts.running_ns)
		counts.valid = 0;
	*ret = counts;
	return 0;
}

static int group_read(int leader, uint64_t *buffer, size_t *words)
{
	ssize_t got = read(leader, buffer, GROUP_WORDS * sizeof(*buffer));

	if (got < 0)
		return -errno;
	if ((size_t)got < VALUES * sizeof(*buffer))
		return -EINVAL;
	*words = (size_t)got / sizeof(*buffer);
	return 0;
}

/*
 * The warm-up uncounted, then the batch.  Writes the sample's last result and
 * leaves its ticks and switches alone: a counted batch is not a timed one.
 *
 * The leader alone is switched.  With PERF_IOC_FLAG_GROUP it would go first,
 * and run by itself until a member that does not fit throws it out: a
 * running time where nothing was counted.  Counts can be reset, times cannot.
 */
int pb_counters_run(const struct pb_counters *counters,
		    struct pb_sample *sample, struct pb_counts *ret)
{
	uint64_t before[GROUP_WORDS], after[GROUP_WORDS];
	int leader = counters->fd[PB_EVENT_CYCLES];
	size_t words = 0;
	int err;

	if (!sample->lookups)
		return -EINVAL;
	if (ioctl(leader, PERF_EVENT_IOC_RESET, PERF_IOC_FLAG_GROUP))
		return -errno;
	err = group_read(leader, before, &words);
	if (err)
		return err;
	if (sample->warm_up)
		sample->run(sample->base, sample->offsets, sample->warm_up);
	if (ioctl(leader, PERF_EVENT_IOC_ENABLE, 0))
		return -errno;
	sample->last = sample->run(sample->base,
				   sample->offsets + sample->warm_up,
				   sample->lookups);
	if (ioctl(leader, PERF_EVENT_IOC_DISABLE, 0))
		return -errno;
	err = group_read(leader, after, &words);
	if (err)
		return err;
	after[TIME_ENABLED] -= before[TIME_ENABLED];
	after[TIME_RUNNING] -= before[TIME_RUNNING];
	return pb_counters_parse(counters, after, words, ret);
}

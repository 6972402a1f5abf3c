// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs rewritten loops, which record their accesses into a buffer.  Behind the
 * buffer stands a page that nobody may write to: a loop that records more than
 * was asked for ends there, and nowhere else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pagebench.h"

/* What the signal's handler has to know of the loop that this thread runs. */
static _Thread_local struct {
	sigjmp_buf out;
	const char *guard;
	size_t bytes;
} running;

static void faulted(int signal, siginfo_t *info, void *context)
{
	const char *at = info->si_addr;

	(void)context;
	if (running.guard && at >= running.guard &&
	    at < running.guard + running.bytes)
		siglongjmp(running.out, 1);
	/* None of ours: the instruction faults once more, and is not caught. */
	sigaction(signal, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

int pb_recorder_init(size_t records, struct pb_recorder *ret)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes;
	char *buffer;

	if (!records || records > SIZE_MAX / 64)
		return -EINVAL;
	bytes = (records * sizeof(uint64_t) + page - 1) & -page;
	buffer = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		return -errno;
	if (mprotect(buffer + bytes, page, PROT_NONE)) {
		int err = errno;

		munmap(buffer, bytes + page);
		return -err;
	}
	*ret = (struct pb_recorder){ (uint64_t *)buffer, bytes, page };
	return 0;
}

void pb_recorder_deinit(struct pb_recorder *recorder)
{
	munmap(recorder->records, recorder->bytes + recorder->guard_bytes);
}

int pb_recorder_run(const struct pb_recorder *recorder,
		    uint64_t *const *begin_and_end, pb_probe_fn *run,
		    const void *base, const uint32_t *offsets, size_t n,
		    const void **last, size_t *ret)
{
	struct sigaction mine = { .sa_sigaction = faulted,
				  .sa_flags = SA_SIGINFO },
			 before;
	int err = 0;

	*begin_and_end[0] = (uintptr_t)recorder->records;
	running.guard = (char *)recorder->records + recorder->bytes;
	running.bytes = recorder->guard_bytes;
	if (sigaction(SIGSEGV, &mine, &before))
		return -errno;
	if (!sigsetjmp(running.out, 1))
		*last = run(base, offsets, n);
	else
		err = -ENOBUFS;
	sigaction(SIGSEGV, &before, NULL);
	running.guard = NULL;
	if (!err)
		*ret = (*begin_and_end[1] - *begin_and_end[0]) /
		       sizeof(uint64_t);
	return err;
}

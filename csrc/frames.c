// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page frames that a memmap is mapped from, one at a time: what aliases in the
 * kernel's vmemmap aliases here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pagebench.h"

#define FRAME 4096UL

int pb_frames_create(size_t bytes, int32_t *ret)
{
	int fd = memfd_create("pagebench", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes)) {
		err = -errno;
		close(fd);
		return err;
	}
	*ret = fd;
	return 0;
}

void pb_frames_destroy(int32_t fd)
{
	close(fd);
}

/* Address space aligned to @alignment, a power of two; nothing behind it. */
int pb_map_reserve(size_t bytes, size_t alignment, void **ret)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), mapped;
	char *start, *base;

	if (!bytes || !alignment || alignment & (alignment - 1))
		return -EINVAL;
	if (__builtin_add_overflow(bytes, alignment + page, &mapped))
		return -ENOMEM;
	bytes = (bytes + page - 1) & -page;
	mapped = bytes + alignment;
	start = mmap(NULL, mapped, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return -errno;
	base = (char *)(((uintptr_t)start + alignment - 1) & -alignment);
	if (base > start)
		munmap(start, base - start);
	munmap(base + bytes, start + mapped - (base + bytes));
	*ret = base;
	return 0;
}

/* Page i of @base from frame frames[i]; neighbours in one mapping. */
int pb_map_frames(void *base, int32_t fd, const uint32_t *frames,
		  const uint8_t *writable, size_t pages)
{
	size_t run;

	for (size_t i = 0; i < pages; i += run) {
		int prot = PROT_READ | (writable[i] ? PROT_WRITE : 0);

		for (run = 1; i + run < pages; run++)
			if (frames[i + run] != frames[i] + run ||
			    !writable[i + run] != !writable[i])
				break;
		if (mmap((char *)base + i * FRAME, run * FRAME, prot,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
			 (off_t)(frames[i] * FRAME)) == MAP_FAILED)
			return -errno;
	}
	return 0;
}

/* All frames in their order, writable: how shared tails are written. */
int pb_map_all(int32_t fd, size_t bytes, void **ret)
{
	void *all =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (all == MAP_FAILED)
		return -errno;
	*ret = all;
	return 0;
}

void pb_unmap(void *base, size_t bytes)
{
	munmap(base, bytes);
}

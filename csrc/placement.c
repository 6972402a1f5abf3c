// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies of probes at addresses of the caller's choice, so that the accident
 * of code placement can be drawn anew instead of being suffered.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "pagebench.h"

int pb_code_reserve(size_t bytes, void **ret)
{
	void *code = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		return -errno;
	*ret = code;
	return 0;
}

void pb_code_copy(void *to, const struct pb_probe *probe)
{
	memcpy(to, probe->start,
	       (const char *)probe->end - (const char *)probe->start);
}

/* Executable from here on and never again writable. */
int pb_code_seal(void *code, size_t bytes)
{
	if (mprotect(code, bytes, PROT_READ | PROT_EXEC))
		return -errno;
	__builtin___clear_cache((char *)code, (char *)code + bytes);
	return 0;
}

void pb_code_unreserve(void *code, size_t bytes)
{
	munmap(code, bytes);
}

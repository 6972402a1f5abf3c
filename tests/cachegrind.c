// SPDX-License-Identifier: GPL-2.0-only
/*
 * A loop's machine code over a memmap's bytes, both from files and at the
 * addresses that they were made for, so that cachegrind and lackey see what a
 * recording saw.  Nothing is touched between emptying the caches and the loop.
 *
 *	cachegrind MEMMAP OFFSETS CODE RUN LOOKUPS FLUSH-BYTES
 *
 * RUN is where in CODE the function begins; a byte behind CODE's end is a lone
 * ret, for what the call itself costs.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MEMMAP	0x800000000UL
#define OFFSETS 0x900000000UL
#define CODE	0xa00000000UL
#define STACK	0xb00000000UL
#define FLUSH	0xc00000000UL
#define ROOM	(1UL << 20)

static size_t map(const char *path, unsigned long at)
{
	struct stat status;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &status) ||
	    mmap((void *)at, (size_t)status.st_size,
		 PROT_READ | PROT_WRITE | (at == CODE ? PROT_EXEC : 0),
		 MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
		 0) != (void *)at) {
		perror(path);
		exit(2);
	}
	return (size_t)status.st_size;
}

static void room(unsigned long at, size_t bytes)
{
	if (mmap((void *)at, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
			 MAP_POPULATE,
		 -1, 0) != (void *)at) {
		perror("room");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	unsigned long run, lookups, flush_bytes;

	if (argc != 7)
		return 2;
	map(argv[1], MEMMAP);
	map(argv[2], OFFSETS);
	map(argv[3], CODE);
	run = strtoul(argv[4], NULL, 0);
	lookups = strtoul(argv[5], NULL, 0);
	flush_bytes = strtoul(argv[6], NULL, 0);
	room(STACK, ROOM);
	room(FLUSH, flush_bytes);

#define EMPTY_CACHES             \
	"mov %%r12, %%rax\n"     \
	"1: mov (%%rax), %%cl\n" \
	"add $64, %%rax\n"       \
	"cmp %%r13, %%rax\n"     \
	"jne 1b\n"

	__asm__ volatile(
		"mov %0, %%r12\n\t"
		"mov %1, %%r13\n\t"
		"mov %2, %%r14\n\t"
		"mov %3, %%r15\n\t"
		"mov %4, %%rdi\n\t"
		"mov %5, %%rsi\n\t"
		"mov %6, %%rdx\n\t"
		"mov %%rsp, %%rbx\n\t" EMPTY_CACHES "mov %%r15, %%rsp\n\t"
		"call *%%r14\n\t"
		"mov %%rbx, %%rsp\n\t" EMPTY_CACHES
		:
		: "i"(FLUSH), "g"(FLUSH + flush_bytes), "g"(CODE + run),
		  "i"(STACK + ROOM), "i"(MEMMAP), "i"(OFFSETS), "g"(lookups)
		: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10",
		  "r11", "r12", "r13", "r14", "r15", "cc", "memory");
	return 0;
}

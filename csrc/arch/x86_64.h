/* SPDX-License-Identifier: GPL-2.0-only */
/* x86-64: see arch.h. */

/* rdtsc waits for nothing, and nothing waits for it: lfence does both. */
static inline uint64_t pb_counter(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence\n\trdtsc\n\tlfence"
			 : "=a"(low), "=d"(high)
			 :
			 : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void pb_cpuid(uint32_t leaf, uint32_t *eax, uint32_t *edx)
{
	uint32_t ebx, ecx = 0;

	*eax = leaf;
	__asm__ volatile("cpuid"
			 : "+a"(*eax), "=b"(ebx), "+c"(ecx), "=d"(*edx));
}

/* The TSC where it is invariant: CPUID 8000_0007h, EDX bit 8. */
static inline bool pb_counter_is_usable(void)
{
	uint32_t eax, edx;

	pb_cpuid(0x80000000, &eax, &edx);
	if (eax < 0x80000007)
		return false;
	pb_cpuid(0x80000007, &eax, &edx);
	return edx & (1 << 8);
}

/* Register to register: recent cores do add-immediate at rename. */
#define PB_ADD "add %1, %0"
#define PB_ASM_ADD(adds, sum, addend) \
	__asm__ volatile(adds : "+r"(sum) : "r"(addend) : "cc")

/*
 * And-immediate is one cycle and, unlike xor, no core knows that its result is
 * always the same.
 */
#define PB_ZERO(x) __asm__ volatile("andq $0, %0" : "+r"(x) : : "cc")

/* Fully ordered, as every locked instruction is. */
#define PB_ATOMIC_ADD(p, n) \
	__asm__ volatile("lock addl %1, %0" : "+m"(*(p)) : "i"(n) : "cc")

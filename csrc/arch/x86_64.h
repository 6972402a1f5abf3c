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

struct pb_cpuid {
	uint32_t eax, ebx, ecx, edx;
};

/* All zero for a leaf that the CPU does not have. */
static inline struct pb_cpuid pb_cpuid_of(uint32_t leaf, uint32_t subleaf)
{
	struct pb_cpuid id = { .eax = leaf & 0x80000000 };

	__asm__ volatile("cpuid"
			 : "+a"(id.eax), "=b"(id.ebx), "+c"(id.ecx),
			   "=d"(id.edx));
	if (id.eax < leaf)
		return (struct pb_cpuid){ 0 };
	id = (struct pb_cpuid){ .eax = leaf, .ecx = subleaf };
	__asm__ volatile("cpuid"
			 : "+a"(id.eax), "=b"(id.ebx), "+c"(id.ecx),
			   "=d"(id.edx));
	return id;
}

static inline struct pb_cpuid pb_cpuid(uint32_t leaf)
{
	return pb_cpuid_of(leaf, 0);
}

static inline bool pb_describe(uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	struct pb_cpuid id = pb_cpuid_of(leaf, subleaf);

	ret[0] = id.eax;
	ret[1] = id.ebx;
	ret[2] = id.ecx;
	ret[3] = id.edx;
	return ret[0] | ret[1] | ret[2] | ret[3];
}

/* The TSC where it is invariant: CPUID 8000_0007h, EDX bit 8. */
static inline bool pb_counter_is_usable(void)
{
	return pb_cpuid(0x80000007).edx & (1 << 8);
}

/*
 * CLFLUSHOPT where there is one (CPUID 7, EBX bit 23): CLFLUSH waits for each
 * line, and took sixty times as long.
 */
static inline void pb_flush(const char *begin, const char *end)
{
	bool weakly_ordered = pb_cpuid(7).ebx & (1 << 23);

	for (const char *line = begin; line < end; line += 64)
		if (weakly_ordered)
			__asm__ volatile("clflushopt %0" : : "m"(*line));
		else
			__asm__ volatile("clflush %0" : : "m"(*line));
	__asm__ volatile("mfence" : : : "memory");
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

/* Write-combining: a line that is written whole is not read before. */
#define PB_STREAM(p, word) \
	__asm__ volatile("movnti %1, %0" : "=m"(*(p)) : "r"(word))
#define PB_STREAM_END() __asm__ volatile("sfence" : : : "memory")

/* Fully ordered, as every locked instruction is. */
#define PB_ATOMIC_ADD(p, n) \
	__asm__ volatile("lock addl %1, %0" : "+m"(*(p)) : "i"(n) : "cc")

/* SSE2 is in every one; what there is of AVX is asked at run time. */
#define PB_X86_VECTORS

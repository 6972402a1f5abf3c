/* SPDX-License-Identifier: GPL-2.0-only */
/* aarch64: see arch.h. */

static inline uint64_t pb_counter(void)
{
	uint64_t now;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb"
			 : "=r"(now)
			 :
			 : "memory");
	return now;
}

/* The generic timer has one rate by definition. */
static inline bool pb_counter_is_usable(void)
{
	return true;
}

/* Its ID registers say nothing of caches to user space. */
static inline bool pb_describe(uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	(void)leaf;
	(void)subleaf;
	(void)ret;
	return false;
}

/* Lines are as long as CTR_EL0 says, 16 bytes at least. */
static inline void pb_flush(const char *begin, const char *end)
{
	uint64_t type;

	__asm__ volatile("mrs %0, ctr_el0" : "=r"(type));
	for (const char *line = begin; line < end;
	     line += 4u << (type >> 16 & 15))
		__asm__ volatile("dc civac, %0" : : "r"(line) : "memory");
	__asm__ volatile("dsb ish" : : : "memory");
}

#define PB_ADD "add %0, %0, %1"
#define PB_ASM_ADD(adds, sum, addend) \
	__asm__ volatile(adds : "+r"(sum) : "r"(addend))

#define PB_ZERO(x) __asm__ volatile("and %0, %0, xzr" : "+r"(x))

/* Cores find out by themselves that whole lines are written. */
#define PB_STREAM(p, word) ((void)(*(volatile unsigned long *)(p) = (word)))
#define PB_STREAM_END()	   ((void)0)

/* Relaxed, as the kernel's atomic_add() is where the CPU lets it be. */
#define PB_ATOMIC_ADD(p, n) ((void)__atomic_fetch_add(p, n, __ATOMIC_RELAXED))

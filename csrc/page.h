/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * struct page as the built-in variants see it, and the few kernel macros that
 * a compound_head() is written with.  PB_STRUCT_PAGE is its size in bytes.
 */
#ifndef PAGEBENCH_PAGE_H
#define PAGEBENCH_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef PB_STRUCT_PAGE
#define PB_STRUCT_PAGE 64
#endif

#define PAGE_SIZE 4096UL

/* The bit of page->flags, v6.12 ... v7.2; only consistency matters here. */
#define PG_head 6

/* Offsets are those of a 64-bit kernel, v4.4 ... v7.2. */
struct page {
	unsigned long flags;
	union {
		unsigned long compound_head; /* up to v7.0 */
		unsigned long compound_info; /* since v7.1 */
	};
	unsigned long lru_prev;
	void *mapping;
	unsigned long index;
	unsigned long private;
	int _mapcount;
	int _refcount;
	unsigned long rest[(PB_STRUCT_PAGE - 56) / 8];
};

_Static_assert(sizeof(struct page) == PB_STRUCT_PAGE, "a multiple of 8 >= 56");
_Static_assert(offsetof(struct page, compound_info) == 8, "the kernel's");
_Static_assert(offsetof(struct page, _refcount) == 52, "the kernel's");

#undef __always_inline
#define __always_inline	  inline __attribute__((__always_inline__))
#define READ_ONCE(x)	  (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v)  (*(volatile __typeof__(x) *)&(x) = (v))
#define likely(x)	  __builtin_expect(!!(x), 1)
#define unlikely(x)	  __builtin_expect(!!(x), 0)
#define GENMASK_FROM(bit) (~0UL << (bit))

/*
 * Hides from the compiler what @var holds.  In one arm of a branch it keeps
 * the branch from being turned into a select.
 */
#define OPTIMIZER_HIDE_VAR(var) __asm__ volatile("" : "+r"(var))

/* A condition the compiler must take for a coin toss, so that it selects. */
#ifdef __clang__
#define UNPREDICTABLE(x) __builtin_unpredictable(!!(x))
#else
#define UNPREDICTABLE(x) __builtin_expect_with_probability(!!(x), 1, 0.5)
#endif

/*
 * As in v7.1, commit 8c846c879e22 ("mm: rework compound_head() for power-of-2
 * sizeof(struct page)"): any other size keeps the tagged pointer.
 */
#define PB_HAS_MASK ((PB_STRUCT_PAGE & (PB_STRUCT_PAGE - 1)) == 0)

static __always_inline bool compound_info_has_mask(void)
{
	return PB_HAS_MASK;
}

/* Up to v7.0: commit 1d798ca3f164 ("mm: make compound_head() robust"). */
static __always_inline void set_compound_pointer(struct page *tail,
						 const struct page *head)
{
	WRITE_ONCE(tail->compound_head, (unsigned long)head + 1);
}

/* Since v7.1: the same word for every tail of an order. */
static __always_inline void set_compound_mask(struct page *tail,
					      const struct page *head,
					      unsigned int order)
{
	unsigned int shift = order + __builtin_ctzl(sizeof(struct page));

	if (!compound_info_has_mask()) {
		set_compound_pointer(tail, head);
		return;
	}
	WRITE_ONCE(tail->compound_info, GENMASK_FROM(shift) | 1);
}

/*
 * The harness' alone, for the null between encodings: a mask without its top
 * bit, which no address in user space has.
 */
static __always_inline void set_compound_null(struct page *tail,
					      const struct page *head,
					      unsigned int order)
{
	set_compound_mask(tail, head, order);
	if (compound_info_has_mask())
		WRITE_ONCE(tail->compound_info,
			   tail->compound_info & ~0UL >> 1);
}

/* What PB_ENCODING may be: set_compound_head(), and the words it writes. */
#define PB_SET_pointer(tail, head, order) \
	((void)(order), set_compound_pointer(tail, head))
#define PB_SET_mask(tail, head, order) set_compound_mask(tail, head, order)
#define PB_SET_null(tail, head, order) set_compound_null(tail, head, order)
#define PB_WORDS_pointer	       "pointer"
#define PB_WORDS_mask		       (PB_HAS_MASK ? "mask" : "pointer")
#define PB_WORDS_null		       (PB_HAS_MASK ? "null" : "pointer")

/*
 * v5.17 ... v7.0, with hugetlb_optimize_vmemmap_key on: the head of a fake head.
 * Only a struct page at a PAGE_SIZE-aligned address may be a fake head; asking
 * that first avoids touching page[1], which may be cold.
 */
static __always_inline const struct page *
page_fixed_fake_head(const struct page *page)
{
	if (((unsigned long)page & (PAGE_SIZE - 1)) == 0 &&
	    READ_ONCE(page->flags) & (1UL << PG_head)) {
		unsigned long head = READ_ONCE(page[1].compound_head);

		if (likely(head & 1))
			return (const struct page *)(head - 1);
	}
	return page;
}

#endif

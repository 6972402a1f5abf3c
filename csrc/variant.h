/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The template: a compound_head()/set_compound_head() pair in, a struct
 * pb_variant with every probe out.  Included last by a translation unit that
 * has defined
 *
 *	PB_ID		an identifier, as in pointer_branch
 *	PB_NAME		the name, as in "pointer-branch"
 *	PB_COMMIT, PB_SUBJECT, PB_VERSION	where the pair comes from
 *	struct page, PG_head, compound_head()
 *	PB_ENCODING	pointer or mask, which set_compound_head() follows from;
 *			or else a set_compound_head() of its own
 *
 * and, where it has that to say,
 *
 *	PB_FORM		what its tail test becomes, whoever compiles it
 *	PB_PAGE_IS_FAKE_HEAD(page)	that there are fake heads
 *
 * It assumes no particular struct page: a kernel tree's comes the same way.
 */
#include "arch.h"
#include "pagebench.h"
#include "struct_page.h"

/* Tells the same variant over struct pages of several sizes apart. */
#ifndef PB_SUFFIX
#define PB_SUFFIX
#endif

#ifndef PB_FORM
#define PB_FORM ""
#endif

#define PB_SYMBOL(what) \
	PB_CAT(PB_CAT(PB_CAT(PB_CAT(pb_, PB_ID), PB_SUFFIX), _), what)
#define PB_HIDDEN __attribute__((visibility("hidden")))

/*
 * Emits no instruction.  Notes the current place in the section pb_marks and,
 * claiming to change @x, keeps the compiler from computing across it, from
 * hoisting what follows out of the loop and from folding two lookups into one.
 */
#define PB_MARK(kind, x)                                         \
	__asm__ volatile(".Lpb_mark_%=:\n\t"                     \
			 ".pushsection pb_marks, \"a\"\n\t"      \
			 ".balign 4\n\t"                         \
			 ".long .Lpb_mark_%= - ., " #kind "\n\t" \
			 ".popsection"                           \
			 : "+r"(x))

/* Has the CPU finish computing @x, and no more. */
#define PB_USE(x) __asm__ volatile("" : : "r"(x))

/*
 * page_ref_add_unless(page, 1, 0), without the retries that contention costs.
 * With HVO, up to v7.0, in a read-side section of RCU (here its counter on the
 * stack, as PREEMPT_RCU has one in task_struct) and not for a fake head, whose
 * memory is read-only.  Since v7.1 the atomic alone.
 */
static __always_inline bool pb_page_ref_try_get(struct page *page)
{
	volatile int *refcount = &PB_FIELD(page, int, _refcount);
	bool got = false;
	int seen;
#ifdef PB_PAGE_IS_FAKE_HEAD
	volatile int nesting = 0;

	nesting++;
	__asm__ volatile("" : : : "memory");
	seen = *refcount;
	if (seen && !PB_PAGE_IS_FAKE_HEAD(page))
#else
	seen = *refcount;
#endif
	{
		while (seen && !got)
			got = __atomic_compare_exchange_n(refcount, &seen,
							  seen + 1, 0,
							  __ATOMIC_SEQ_CST,
							  __ATOMIC_RELAXED);
	}
#ifdef PB_PAGE_IS_FAKE_HEAD
	__asm__ volatile("" : : : "memory");
	nesting--;
#endif
	return got;
}

/* The write side, as prep_compound_page() does it: every tail of a folio. */
static __always_inline void pb_prep_tails(struct page *head)
{
	unsigned int order = PB_FIELD(head, unsigned long, private);
	struct page *page = head, *end = page + (1UL << order);

	while (++page != end)
		pb_set_compound_head(page, head, order);
}

/*
 * Generates one probe: the machine code is the same around every variant, and
 * has a section of its own so that the linker gives us its first and last
 * byte.  BEFORE sees @page, LOOKUP makes @head of it, AFTER uses that; all see
 * @link, zero at first, which is how one lookup comes to depend on the one
 * before.  For chain:
 *
 *	do {
 *		page = base + *offsets * 8;
 *		page += link;
 *		head = compound_head(page);
 *		link = head & 0;
 *	} while (++offsets != end);
 *	return head;
 */
#define PB_PROBE(probe, BEFORE, LOOKUP, AFTER)                                 \
	PB_HIDDEN extern const char PB_CAT(__start_, PB_SYMBOL(probe))[];      \
	PB_HIDDEN extern const char PB_CAT(__stop_, PB_SYMBOL(probe))[];       \
	PB_HIDDEN __attribute__((__noinline__,                                 \
				 section(PB_STR(PB_SYMBOL(probe)))))           \
	const void *PB_SYMBOL(probe##_loop)(                                   \
		const void *base, const uint32_t *offsets, size_t n);          \
	const void *PB_SYMBOL(probe##_loop)(const void *base,                  \
					    const uint32_t *offsets, size_t n) \
	{                                                                      \
		const uint32_t *end = offsets + n;                             \
		unsigned long link = 0;                                        \
		const struct page *page;                                       \
		struct page *head;                                             \
                                                                               \
		do {                                                           \
			page = (const void *)((const char *)base +             \
					      (unsigned long)*offsets * 8);    \
			BEFORE;                                                \
			PB_MARK(0, page);                                      \
			LOOKUP;                                                \
			PB_MARK(1, head);                                      \
			AFTER;                                                 \
		} while (++offsets != end);                                    \
		(void)link;                                                    \
		return head;                                                   \
	}

#define PB_LINK_IN                                                \
	do {                                                      \
		__asm__ volatile("" : "+r"(page)); /* add last */ \
		page = (const void *)((const char *)page + link); \
	} while (0)

#define PB_LINK_OUT(value)                     \
	do {                                   \
		link = (unsigned long)(value); \
		PB_ZERO(link);                 \
	} while (0)

/* Up to v5.16 a kernel's takes no pointer to const. */
#define PB_LOOKUP     head = (struct page *)compound_head((struct page *)page)
#define PB_NO_LOOKUP  head = (struct page *)page
#define PB_REF_ADD(n) PB_ATOMIC_ADD(&PB_FIELD(head, int, _refcount), n)

PB_PROBE(lookup, , PB_LOOKUP, )
PB_PROBE(chain, PB_LINK_IN, PB_LOOKUP, PB_LINK_OUT(head))
PB_PROBE(flags, PB_LINK_IN, PB_LOOKUP,
	 PB_LINK_OUT(PB_FIELD(head, unsigned long, flags)))
PB_PROBE(get, , PB_LOOKUP, PB_REF_ADD(1); PB_REF_ADD(-1))
/* gup_fast_pte_range(): the second lookup is of the page afresh. */
PB_PROBE(gup, , PB_LOOKUP; PB_REF_ADD(1); __asm__ volatile("" : "+r"(page));
	 PB_LOOKUP, )
/* zap_present_folio_ptes(), folio_remove_rmap_pte(): what they ask a head. */
PB_PROBE(zap, , PB_LOOKUP, PB_USE(PB_FIELD(head, unsigned long, mapping) & 1);
	 PB_USE(PB_FIELD(head, unsigned long, flags));
	 PB_ATOMIC_ADD(&PB_FIELD(head, int, _mapcount), -1))
PB_PROBE(try_get, , PB_NO_LOOKUP, head = pb_page_ref_try_get(head) ? head : 0)
PB_PROBE(prep, , PB_NO_LOOKUP, pb_prep_tails(head))

/* What one turn does is said here and nowhere else: see struct pb_probe. */
#define PB_ROW(probe, ...)                             \
	{ .name = #probe,                              \
	  .run = PB_SYMBOL(probe##_loop),              \
	  .start = PB_CAT(__start_, PB_SYMBOL(probe)), \
	  .end = PB_CAT(__stop_, PB_SYMBOL(probe)),    \
	  __VA_ARGS__ }

/* clang-format off */
static const struct pb_probe pb_probes[] = {
	PB_ROW(lookup,	.lookups = 1),
	PB_ROW(chain,	.lookups = 1),
	PB_ROW(flags,	.lookups = 1, .uses_head = 1),
	PB_ROW(get,	.lookups = 1, .uses_head = 1, .writes_counts = 1),
	PB_ROW(gup,	.lookups = 2, .uses_head = 1, .writes_counts = 1,
			.adds_refs = 1),
	PB_ROW(zap,	.lookups = 1, .uses_head = 1, .writes_counts = 1,
			.adds_maps = -1),
	PB_ROW(try_get,	.returns = PB_RETURNS_COUNTED, .writes_counts = 1,
			.adds_refs = 1),
	PB_ROW(prep,	.returns = PB_RETURNS_PAGE, .writes_tails = 1),
};
/* clang-format on */

PB_HIDDEN extern const struct pb_mark __start_pb_marks[];
PB_HIDDEN extern const struct pb_mark __stop_pb_marks[];

static const struct pb_variant pb_variant = {
	.name = PB_NAME,
	.commit = PB_COMMIT,
	.subject = PB_SUBJECT,
	.version = PB_VERSION,
	.encoding = PB_WORDS,
	.form = PB_FORM,
#ifdef PB_PAGE_IS_FAKE_HEAD
	.fixes_fake_heads = 1,
#endif
	.struct_page_bytes = sizeof(struct page),
	.mapcount_at = offsetof(struct page, _mapcount),
	.refcount_at = offsetof(struct page, _refcount),
	.probe_count = sizeof(pb_probes) / sizeof(pb_probes[0]),
	.probes = pb_probes,
	.marks = __start_pb_marks,
	.marks_end = __stop_pb_marks,
	.init_head = pb_init_head,
	.init_tails = pb_init_tails,
	.encode_tails = pb_encode_tails,
};

/* The registry: pb_variants() walks this section. */
static const struct pb_variant *pb_registered
	__attribute__((used, section("pb_registry"))) = &pb_variant;

// SPDX-License-Identifier: GPL-2.0-only
/*
 * /proc/kpageflags, folded: pages to folios, by heads and the tails behind
 * them, and folios that are alike to runs.  A fake head is a head here.
 */
#include <string.h>

#include "pagebench.h"

/* MAX_FOLIO_ORDER with 4 KiB pages and hugetlb: 16 GiB. */
#define MAX_ORDER 22

/* Bits of <linux/kernel-page-flags.h>; from 32 on those of fs/proc/page.c. */
enum {
	KPF_UPTODATE = 3,
	KPF_LRU = 5,
	KPF_SLAB = 7,
	KPF_BUDDY = 10,
	KPF_ANON = 12,
	KPF_SWAPCACHE = 13,
	KPF_COMPOUND_TAIL = 16,
	KPF_HUGE = 17,
	KPF_UNEVICTABLE = 18,
	KPF_NOPAGE = 20,
	KPF_THP = 22,
	KPF_OFFLINE = 23,
	KPF_PGTABLE = 26,
	KPF_RESERVED = 32,
};

#define BIT(n) (1ULL << (n))

/*
 * A kind and the flags of which it has any; the first that fits.  Slabs and
 * page tables keep words of their own where others have a mapping, so that
 * some read as ANON.  THP is set on large folios of any order.
 */
static const struct {
	enum pb_kind kind;
	uint64_t any;
} kinds[] = {
	{ PB_KIND_NOPAGE, BIT(KPF_NOPAGE) },
	{ PB_KIND_BUDDY, BIT(KPF_BUDDY) },
	{ PB_KIND_HUGETLB, BIT(KPF_HUGE) },
	{ PB_KIND_SLAB, BIT(KPF_SLAB) },
	{ PB_KIND_PGTABLE, BIT(KPF_PGTABLE) },
	{ PB_KIND_OFFLINE, BIT(KPF_OFFLINE) },
	{ PB_KIND_RESERVED, BIT(KPF_RESERVED) },
	{ PB_KIND_LARGE, BIT(KPF_THP) },
	{ PB_KIND_ANON, BIT(KPF_ANON) | BIT(KPF_SWAPCACHE) },
	{ PB_KIND_FILE,
	  BIT(KPF_LRU) | BIT(KPF_UPTODATE) | BIT(KPF_UNEVICTABLE) },
};

static uint32_t kind_of(uint64_t flags)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (flags & kinds[i].any)
			return kinds[i].kind;
	return PB_KIND_OTHER;
}

/* A folio more; the run before it, if that ends here, goes to @runs. */
static size_t add(struct pb_fold *fold, uint32_t order, struct pb_run *runs)
{
	struct pb_run *run = &fold->run;
	size_t ended = 0;

	if (run->count && (run->kind != fold->kind || run->order != order)) {
		runs[ended++] = *run;
		run->count = 0;
	}
	run->kind = fold->kind;
	run->order = order;
	run->count++;
	return ended;
}

/*
 * The pages since the last head are a folio, or were when its head was read:
 * then what there is of them goes into folios as large as fit.
 */
static size_t end_folio(struct pb_fold *fold, struct pb_run *runs)
{
	uint64_t n = fold->pages, head = fold->pfn - n;
	size_t ended = 0;
	uint32_t order;

	if (!n)
		return 0;
	order = 63 - (uint32_t)__builtin_clzll(n);
	fold->pages = 0;
	if (!fold->headless && n == BIT(order) && order <= MAX_ORDER &&
	    !(head & (n - 1)))
		return add(fold, order, runs);
	fold->torn += n;
	while (n) {
		order = 63 - (uint32_t)__builtin_clzll(n);
		if (head && order > (uint32_t)__builtin_ctzll(head))
			order = (uint32_t)__builtin_ctzll(head);
		if (order > MAX_ORDER)
			order = MAX_ORDER;
		ended += add(fold, order, runs + ended);
		head += BIT(order);
		n -= BIT(order);
	}
	return ended;
}

void pb_fold_init(uint64_t pfn, struct pb_fold *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->first = ret->pfn = pfn;
}

/*
 * The flags of the next @n pages.  Writes the runs that they end, at most
 * @n + PB_RUNS_SPARE, and returns how many.
 */
size_t pb_fold_pages(struct pb_fold *fold, const uint64_t *flags, size_t n,
		     struct pb_run *runs)
{
	const struct pb_run *run = &fold->run;
	size_t ended = 0;

	for (size_t i = 0; i < n; i++, fold->pfn++) {
		int tail = flags[i] >> KPF_COMPOUND_TAIL & 1;

		/* Base pages behind one that is alike, as most are. */
		if (!tail && fold->pages == 1 && i &&
		    flags[i] == flags[i - 1] && run->count && !run->order &&
		    run->kind == fold->kind) {
			fold->run.count++;
			continue;
		}
		if (tail && fold->pages) {
			fold->pages++;
			continue;
		}
		if (tail && fold->pfn == fold->first) {
			fold->first++;
			continue;
		}
		ended += end_folio(fold, runs + ended);
		fold->pages = 1;
		fold->headless = (uint32_t)tail;
		fold->kind = kind_of(flags[i]);
	}
	return ended;
}

/*
 * Behind the last page: the runs that are left, at most PB_RUNS_SPARE.  With
 * @cut the last folio goes on beyond it, and is left out.
 */
size_t pb_fold_end(struct pb_fold *fold, int cut, struct pb_run *runs)
{
	size_t ended = 0;

	if (cut) {
		fold->pfn -= fold->pages;
		fold->pages = 0;
	}
	ended = end_folio(fold, runs);
	if (fold->run.count)
		runs[ended++] = fold->run;
	fold->run.count = 0;
	return ended;
}

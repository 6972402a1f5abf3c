// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for a memmap: reserved aligned, backed as asked, faulted in, then
 * populated and verified through a variant, a folio at a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "pagebench.h"

/*
 * Aligned to @alignment (a power of two) and mapped from 4 KiB or, as far as
 * transparent hugepages go, 2 MiB pages; every byte is written once.  What was
 * obtained has to be read back by the caller.
 *
 * Not from malloc(), which hands out again what was freed: pages of the
 * backing that was asked for before.
 */
int pb_reserve(size_t bytes, size_t alignment, uint32_t backing, void **ret)
{
	int advice = backing == PB_BACKING_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
	void *base;
	int err;

	err = pb_map_reserve(bytes, alignment, &base);
	if (err)
		return err;
	/* Memory that the kernel accounts for, in place of mere addresses. */
	if (mmap(base, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		goto unmap;
	/* EINVAL: a kernel without THP.  4 KiB is then all there is. */
	if (madvise(base, bytes, advice) && errno != EINVAL)
		goto unmap;
	memset(base, 0, bytes);
	*ret = base;
	return 0;
unmap:
	err = -errno;
	pb_unmap(base, bytes);
	return err;
}

void pb_unreserve(void *base, size_t bytes)
{
	pb_unmap(base, bytes);
}

static void *page_at(const void *base, uint32_t offset)
{
	return (char *)base + (size_t)offset * 8;
}

static size_t written(const struct pb_folio *folio)
{
	return folio->pages ? folio->pages : (size_t)1 << folio->order;
}

void pb_memmap_populate(const struct pb_variant *variant, void *base,
			const struct pb_folio *folios, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *head = page_at(base, folios[i].head);

		variant->init_head(head, folios[i].order);
		variant->init_tails(head + variant->struct_page_bytes, head,
				    folios[i].order, written(&folios[i]) - 1);
	}
}

void pb_memmap_encode(const struct pb_variant *variant, void *base,
		      const struct pb_folio *folios, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *head = page_at(base, folios[i].head);

		variant->encode_tails(head + variant->struct_page_bytes, head,
				      folios[i].order, written(&folios[i]) - 1);
	}
}

void pb_memmap_tails(const struct pb_variant *variant, void *tails,
		     const void *head, uint32_t order, size_t n, int whole)
{
	if (whole)
		variant->init_tails(tails, head, order, n);
	else
		variant->encode_tails(tails, head, order, n);
}

void pb_memmap_verify(pb_probe_fn *run, const void *base,
		      const uint32_t *offsets, const uint32_t *heads, size_t n,
		      struct pb_verification *ret)
{
	*ret = (struct pb_verification){ 0 };
	for (size_t i = 0; i < n; i++) {
		const char *got = run(base, &offsets[i], 1);

		if (got ==
		    (heads[i] == PB_NO_PAGE ? NULL : page_at(base, heads[i])))
			continue;
		if (!ret->wrong++) {
			ret->first = i;
			ret->got = (intptr_t)got - (intptr_t)base;
		}
	}
}

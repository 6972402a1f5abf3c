// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for a memmap: reserved aligned, backed as asked, faulted in, then
 * populated and verified through a variant, a folio at a time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch.h"
#include "pagebench.h"

/*
 * Aligned to @alignment (a power of two) and mapped from 4 KiB or, as far as
 * transparent hugepages go, 2 MiB pages; every byte is written once.  What was
 * obtained has to be read back by the caller.
 */
int pb_reserve(size_t bytes, size_t alignment, uint32_t backing, void **ret)
{
	int advice = backing == PB_BACKING_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *base;
	int err;

	if (!bytes || !alignment || alignment & (alignment - 1))
		return -EINVAL;
	if (bytes > SIZE_MAX / 2)
		return -ENOMEM;
	/* Whole pages, whatever was asked for. */
	if (alignment < page)
		alignment = page;
	bytes = (bytes + page - 1) & -page;
	err = posix_memalign(&base, alignment, bytes);
	if (err)
		return -err;
	err = -EFAULT;
	if ((uintptr_t)base & (alignment - 1))
		goto out;
	/* What was freed is handed out again, with the pages that it had. */
	if (madvise(base, bytes, MADV_DONTNEED))
		goto failed;
	/* EINVAL: a kernel without THP.  4 KiB is then all there is. */
	if (madvise(base, bytes, advice) && errno != EINVAL)
		goto failed;
	memset(base, 0, bytes);
	*ret = base;
	return 0;
failed:
	err = -errno;
out:
	free(base);
	return err;
}

void pb_unreserve(void *base)
{
	free(base);
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
		if (!folios[i].order)
			continue;
		variant->init_tails(head + variant->struct_page_bytes, head,
				    folios[i].order, written(&folios[i]) - 1);
	}
	PB_STREAM_END();
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
	PB_STREAM_END();
}

void pb_memmap_flush(const void *base, size_t bytes)
{
	pb_flush(base, (const char *)base + bytes);
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

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives the whole core without Python: for sanitizers, valgrind and qemu.
 * Stops at the first thing that is wrong and says what it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "page.h"
#include "pagebench.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MAX_ORDER     9 /* a 2 MiB hugepage */
#define PAGES	      (2u << MAX_ORDER)
#define MIXES	      4
#define MAX_STRUCT    96
#define GUARD_BYTES   4096
/* What no variant writes: its bit 0 is set, so it would be a tail. */
#define GARBAGE 0xa5

/* Beyond any address space, yet positive: valgrind takes -1 for a mistake. */
#define TOO_MUCH ((size_t)1 << 62)

static char doing[160];

__attribute__((format(printf, 1, 2))) static void now_doing(const char *format,
							    ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(doing, sizeof(doing), format, args);
	va_end(args);
}

static _Noreturn void fail(int line, const char *what, long long got,
			   long long want)
{
	fflush(stdout);
	fprintf(stderr,
		"tests/core.c:%d: %s: %s is %lld (%#llx), not %lld (%#llx)\n",
		line, doing, what, got, (unsigned long long)got, want,
		(unsigned long long)want);
	exit(1);
}

#define CHECK_EQ(what, expected)                            \
	do {                                                \
		long long got_ = (long long)(what);         \
		long long want_ = (long long)(expected);    \
                                                            \
		if (got_ != want_)                          \
			fail(__LINE__, #what, got_, want_); \
	} while (0)
#define CHECK(what) CHECK_EQ(!!(what), 1)

static uint64_t drawn = 1;

/* Marsaglia's xorshift64, the same numbers in every run. */
static uint32_t draw(uint32_t below)
{
	drawn ^= drawn << 13;
	drawn ^= drawn >> 7;
	drawn ^= drawn << 17;
	return (uint32_t)(drawn >> 32) % below;
}

/*
 * A memmap of PAGES pages that has the alignment its largest folio needs and
 * no more, with guards before and behind.
 */
struct memmap {
	void *reserved;
	size_t reserved_bytes;
	char *base;
	size_t bytes;
	uint32_t words;
	char *snapshot;
	struct pb_folio folios[PAGES];
	size_t nr_folios;
	/* One lookup for each page, shuffled: where, and what geometry says. */
	uint32_t offsets[PAGES];
	uint32_t heads[PAGES];
	uint32_t orders[PAGES];
};

static void memmap_init(uint32_t struct_page_bytes, struct memmap *ret)
{
	size_t alignment = MAX_STRUCT << MAX_ORDER;

	/* The next power of two, so that half of it is the folio's memmap. */
	alignment = (size_t)1 << (64 - __builtin_clzl(alignment - 1));
	if (!(struct_page_bytes & (struct_page_bytes - 1)))
		alignment = (size_t)struct_page_bytes << (MAX_ORDER + 1);
	ret->bytes = (size_t)PAGES * struct_page_bytes;
	ret->words = struct_page_bytes / 8;
	ret->reserved_bytes = alignment / 2 + ret->bytes + GUARD_BYTES;
	CHECK_EQ(pb_reserve(ret->reserved_bytes, alignment, PB_BACKING_4K,
			    &ret->reserved),
		 0);
	ret->base = (char *)ret->reserved + alignment / 2;
	ret->snapshot = malloc(ret->bytes);
	CHECK(ret->snapshot);
	memset(ret->base - GUARD_BYTES, GARBAGE, GUARD_BYTES);
	memset(ret->base + ret->bytes, GARBAGE, GUARD_BYTES);
}

static void memmap_deinit(struct memmap *memmap)
{
	for (size_t i = 1; i <= GUARD_BYTES; i++) {
		CHECK_EQ((unsigned char)memmap->base[-(ptrdiff_t)i], GARBAGE);
		CHECK_EQ((unsigned char)memmap->base[memmap->bytes + i - 1],
			 GARBAGE);
	}
	free(memmap->snapshot);
	pb_unreserve(memmap->reserved);
}

/* Folios of @order, or of orders drawn anew where @order is above MAX_ORDER. */
static void memmap_lay_out(struct memmap *memmap, uint32_t order)
{
	uint32_t pfn = 0;

	memmap->nr_folios = 0;
	while (pfn < PAGES) {
		uint32_t o = order;

		if (order > MAX_ORDER)
			for (o = draw(MAX_ORDER + 1); pfn & ((1u << o) - 1);)
				o--;
		memmap->folios[memmap->nr_folios++] =
			(struct pb_folio){ .head = pfn * memmap->words,
					   .order = o };
		for (uint32_t i = 0; i < 1u << o; i++) {
			memmap->offsets[pfn + i] = (pfn + i) * memmap->words;
			memmap->heads[pfn + i] = pfn * memmap->words;
			memmap->orders[pfn + i] = o;
		}
		pfn += 1u << o;
	}
	CHECK_EQ(pfn, PAGES);
	for (uint32_t i = PAGES - 1; i; i--) {
		uint32_t j = draw(i + 1), t;

#define SWAP(array) (t = array[i], array[i] = array[j], array[j] = t)
		SWAP(memmap->offsets);
		SWAP(memmap->heads);
		SWAP(memmap->orders);
#undef SWAP
	}
}

static void *memmap_at(const struct memmap *memmap, uint32_t offset)
{
	return memmap->base + (size_t)offset * 8;
}

static void populate(const struct pb_variant *variant, struct memmap *memmap)
{
	memset(memmap->base, GARBAGE, memmap->bytes);
	pb_memmap_populate(variant, memmap->base, memmap->folios,
			   memmap->nr_folios);
}

static void snapshot(struct memmap *memmap)
{
	memcpy(memmap->snapshot, memmap->base, memmap->bytes);
}

static bool unchanged(const struct memmap *memmap)
{
	return !memcmp(memmap->snapshot, memmap->base, memmap->bytes);
}

/* Reads nothing: what it finds is the page itself. */
static bool is_identity(const struct pb_variant *variant)
{
	return !strcmp(variant->name, "identity");
}

/* Its results are heads, and the memmap is afterwards what it was before. */
static bool leaves_counts(const struct pb_probe *probe)
{
	return probe->returns == PB_RETURNS_HEAD && !probe->adds_refs &&
	       !probe->adds_maps;
}

/* Nor does it write to a head, which may be the wrong one and read-only. */
static bool only_reads_heads(const struct pb_probe *probe)
{
	return probe->returns == PB_RETURNS_HEAD && !probe->writes_counts;
}

/* The result of lookup @i as an offset, or PB_NO_PAGE. */
static uint32_t expected(const struct pb_variant *variant,
			 const struct pb_probe *probe,
			 const struct memmap *memmap, uint32_t i)
{
	uint32_t page = memmap->offsets[i], head = memmap->heads[i];

	switch (probe->returns) {
	case PB_RETURNS_HEAD:
		return is_identity(variant) ? page : head;
	case PB_RETURNS_PAGE:
		return page;
	case PB_RETURNS_COUNTED: /* tails have a _refcount of 0 */
		return page == head ? page : PB_NO_PAGE;
	}
	fail(__LINE__, "what it returns", probe->returns, PB_RETURNS_HEAD);
}

static void add_at(void *base, size_t at, int n)
{
	int count;

	memcpy(&count, (char *)base + at, sizeof(count));
	count += n;
	memcpy((char *)base + at, &count, sizeof(count));
}

/*
 * Every page looked up through @run, alone and in one batch: results, and what
 * has become of the struct pages.  Leaves them as they were.
 */
static void check_lookups(const struct pb_variant *variant,
			  const struct pb_probe *probe, pb_probe_fn *run,
			  struct memmap *memmap)
{
	struct pb_verification found = { 1, 1, 1 };
	uint32_t wanted[PAGES];
	const char *last;

	snapshot(memmap);
	for (uint32_t i = 0; i < PAGES; i++)
		wanted[i] = expected(variant, probe, memmap, i);
	pb_memmap_verify(run, memmap->base, memmap->offsets, wanted, PAGES,
			 &found);
	CHECK_EQ(found.wrong, 0);
	CHECK_EQ(found.first, 0);
	CHECK_EQ(found.got, 0);

	last = run(memmap->base, memmap->offsets, PAGES);
	if (wanted[PAGES - 1] == PB_NO_PAGE)
		CHECK(!last);
	else
		CHECK_EQ(last - memmap->base, wanted[PAGES - 1] * 8LL);

	for (uint32_t i = 0; i < PAGES; i++) {
		size_t at = (size_t)wanted[i] * 8;

		if (wanted[i] == PB_NO_PAGE)
			continue;
		add_at(memmap->base, at + variant->refcount_at,
		       -2 * probe->adds_refs);
		add_at(memmap->base, at + variant->mapcount_at,
		       -2 * probe->adds_maps);
	}
	CHECK(unchanged(memmap));
}

/* What the built-in ones may state; nothing promised of the form is a promise. */
static const char *const encodings[] = { "pointer", "mask", "null" };
static const char *const forms[] = { "", "branch", "select", "arith", "none" };

static bool is_one_of(const char *text, const char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(text, texts[i]))
			return true;
	return false;
}

static void test_description(const struct pb_variant *variant)
{
	const struct pb_variant *const *all;
	size_t n = pb_variants(&all), namesakes = 0;

	for (size_t i = 0; i < n; i++)
		namesakes += !strcmp(all[i]->name, variant->name) &&
			     all[i]->struct_page_bytes ==
				     variant->struct_page_bytes;
	CHECK_EQ(namesakes, 1);
	CHECK(variant->commit && variant->subject && variant->version);
	CHECK(is_one_of(variant->encoding, encodings, ARRAY_SIZE(encodings)));
	CHECK(is_one_of(variant->form, forms, ARRAY_SIZE(forms)));
	CHECK(variant->struct_page_bytes >= 56);
	CHECK(variant->struct_page_bytes <= MAX_STRUCT);
	CHECK_EQ(variant->struct_page_bytes % 8, 0);
	CHECK_EQ(variant->refcount_at, offsetof(struct page, _refcount));
	CHECK_EQ(variant->mapcount_at, offsetof(struct page, _mapcount));
	CHECK(variant->probe_count >= 4);

	for (uint32_t i = 0; i < variant->probe_count; i++) {
		const struct pb_probe *probe = &variant->probes[i];
		const char *start = probe->start, *end = probe->end;
		const char *at[2] = { NULL, NULL };

		CHECK(probe->returns <= PB_RETURNS_COUNTED);
		CHECK_EQ(!probe->lookups, probe->returns != PB_RETURNS_HEAD);
		CHECK(probe->writes_counts ||
		      (!probe->adds_refs && !probe->adds_maps));
		CHECK(start <= (const char *)probe->run);
		CHECK((const char *)probe->run < end);
		for (const struct pb_mark *mark = variant->marks;
		     mark < variant->marks_end; mark++) {
			const char *where = (const char *)mark + mark->where;

			if (where < start || where > end)
				continue;
			CHECK(mark->kind == 0 || mark->kind == 1);
			CHECK(!at[mark->kind]);
			at[mark->kind] = where;
		}
		/* In any order: clang may put the end of a loop first. */
		CHECK(at[0] && at[1]);
	}
}

static void test_lookups(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));

	CHECK(memmap);
	memmap_init(variant->struct_page_bytes, memmap);
	for (uint32_t order = 0; order <= MAX_ORDER + MIXES; order++) {
		memmap_lay_out(memmap, order);
		populate(variant, memmap);
		for (uint32_t i = 0; i < variant->probe_count; i++) {
			const struct pb_probe *probe = &variant->probes[i];

			now_doing("%s over %u bytes, %s, %s order %u",
				  variant->name, variant->struct_page_bytes,
				  probe->name,
				  order > MAX_ORDER ? "mixed, not" : "all",
				  order);
			check_lookups(variant, probe, probe->run, memmap);
		}
	}
	/* Out of the caches and in again: the same words, the same heads. */
	pb_memmap_flush(memmap->base, memmap->bytes);
	CHECK(unchanged(memmap));
	memmap_deinit(memmap);
	free(memmap);
}

/* From one encoding to another on the same frames, and back. */
static void test_encode(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));
	const struct pb_variant *const *all;
	size_t n = pb_variants(&all);

	CHECK(memmap);
	memmap_init(variant->struct_page_bytes, memmap);
	memmap_lay_out(memmap, MAX_ORDER + 1);
	for (size_t i = 0; i < n; i++) {
		const struct pb_variant *other = all[i];
		const struct pb_variant *turns[] = { other, variant };

		if (other->struct_page_bytes != variant->struct_page_bytes)
			continue;
		populate(variant, memmap);
		for (size_t turn = 0; turn < ARRAY_SIZE(turns); turn++) {
			now_doing("%s and %s over %u bytes, turn %zu",
				  variant->name, other->name,
				  variant->struct_page_bytes, turn);
			pb_memmap_encode(turns[turn], memmap->base,
					 memmap->folios, memmap->nr_folios);
			check_lookups(turns[turn], &turns[turn]->probes[0],
				      turns[turn]->probes[0].run, memmap);
			/* As if it had been populated so in the first place. */
			snapshot(memmap);
			populate(turns[turn], memmap);
			CHECK(unchanged(memmap));
		}
	}
	memmap_deinit(memmap);
	free(memmap);
}

static void test_init_page(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));

	CHECK(memmap);
	memmap_init(variant->struct_page_bytes, memmap);
	for (uint32_t order = 0; order <= MAX_ORDER + 1; order++) {
		memmap_lay_out(memmap, order);
		populate(variant, memmap);
		snapshot(memmap);
		memset(memmap->base, GARBAGE, memmap->bytes);
		for (uint32_t i = 0; i < PAGES; i++) {
			void *page = memmap_at(memmap, memmap->offsets[i]);
			void *head = memmap_at(memmap, memmap->heads[i]);

			if (page == head)
				variant->init_head(head, memmap->orders[i]);
			else
				variant->init_tails(page, head,
						    memmap->orders[i], 1);
		}
		CHECK(unchanged(memmap));

		/* A folio at a time. */
		memset(memmap->base, GARBAGE, memmap->bytes);
		for (size_t i = 0; i < memmap->nr_folios; i++) {
			uint32_t folio_order = memmap->folios[i].order;
			char *head = memmap_at(memmap, memmap->folios[i].head);

			variant->init_head(head, folio_order);
			variant->init_tails(head + variant->struct_page_bytes,
					    head, folio_order,
					    (1u << folio_order) - 1);
		}
		CHECK(unchanged(memmap));

		for (size_t i = 0; i < memmap->nr_folios; i++) {
			uint32_t folio_order = memmap->folios[i].order;
			char *head = memmap_at(memmap, memmap->folios[i].head);
			uint64_t span = (uint64_t)variant->struct_page_bytes
					<< folio_order;
			uint64_t word = (uintptr_t)head | 1;
			struct page page;

			if (!strcmp(variant->encoding, "mask"))
				word = -span | 1;
			else if (!strcmp(variant->encoding, "null"))
				word = (-span | 1) & INT64_MAX;
			/* The fields are where they are, whatever the size. */
			memcpy(&page, head, 56);
			CHECK_EQ(page.flags, folio_order ? 1UL << PG_head : 0);
			CHECK_EQ(page.compound_info & 1, 0);
			CHECK_EQ(page._refcount, 1);
			CHECK_EQ(page._mapcount, -1);
			if (!folio_order)
				continue;
			memcpy(&page, head + variant->struct_page_bytes, 56);
			CHECK_EQ(page.flags, 0);
			CHECK_EQ(page.compound_info, word);
			CHECK_EQ(page._refcount, 0);
		}
	}
	memmap_deinit(memmap);
	free(memmap);
}

/* Folios of which only the first pages are theirs to write. */
static void test_partial_folios(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));
	const uint32_t bytes = variant->struct_page_bytes;
	char *head;

	CHECK(memmap);
	memmap_init(bytes, memmap);
	memmap_lay_out(memmap, MAX_ORDER);
	populate(variant, memmap);
	snapshot(memmap);
	for (uint32_t pages = 1; pages <= 1u << MAX_ORDER; pages *= 8) {
		size_t rest = ((size_t)1 << MAX_ORDER) - pages;

		memset(memmap->base, GARBAGE, memmap->bytes);
		memmap->folios[1].pages = pages;
		pb_memmap_populate(variant, memmap->base, memmap->folios, 2);
		head = memmap_at(memmap, memmap->folios[1].head);
		for (size_t i = 0; i < rest * bytes; i++)
			CHECK_EQ((unsigned char)head[pages * bytes + i],
				 GARBAGE);
		pb_memmap_encode(variant, memmap->base, memmap->folios, 2);
		for (size_t i = 0; i < rest * bytes; i++)
			CHECK_EQ((unsigned char)head[pages * bytes + i],
				 GARBAGE);
		pb_memmap_tails(variant, head + pages * bytes, head, MAX_ORDER,
				rest, true);
		CHECK(unchanged(memmap));
		pb_memmap_tails(variant, head + pages * bytes, head, MAX_ORDER,
				rest, false);
		CHECK(unchanged(memmap));
	}
	memmap_deinit(memmap);
	free(memmap);
}

/* The write side: it makes tails of whatever stands there. */
static void test_writing_tails(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));
	uint32_t heads[PAGES], tried = 0;

	CHECK(memmap);
	memmap_init(variant->struct_page_bytes, memmap);
	memmap_lay_out(memmap, MAX_ORDER + 1);
	populate(variant, memmap);
	snapshot(memmap);
	for (size_t i = 0; i < memmap->nr_folios; i++)
		heads[i] = memmap->folios[i].head;
	for (uint32_t p = 0; p < variant->probe_count; p++) {
		if (!variant->probes[p].writes_tails)
			continue;
		for (uint32_t i = 0; i < PAGES; i++) {
			struct page *page =
				memmap_at(memmap, memmap->offsets[i]);

			if (memmap->offsets[i] != memmap->heads[i])
				page->compound_info = 0;
		}
		CHECK(!unchanged(memmap));
		variant->probes[p].run(memmap->base, heads, memmap->nr_folios);
		CHECK(unchanged(memmap));
		tried++;
	}
	CHECK(tried);
	memmap_deinit(memmap);
	free(memmap);
}

static void check_damage(const struct pb_variant *variant,
			 const struct memmap *memmap, uint64_t wrong,
			 uint64_t first, int64_t got)
{
	for (uint32_t i = 0; i < variant->probe_count; i++) {
		struct pb_verification found;

		if (!leaves_counts(&variant->probes[i]))
			continue;
		pb_memmap_verify(variant->probes[i].run, memmap->base,
				 memmap->offsets, memmap->heads, PAGES, &found);
		CHECK_EQ(found.wrong, wrong);
		CHECK_EQ(found.first, first);
		CHECK_EQ(found.got, got);
	}
}

static void test_damage(const struct pb_variant *variant)
{
	struct memmap *memmap = malloc(sizeof(*memmap));
	uint64_t wrong = 0, first = 0;

	CHECK(memmap);
	memmap_init(variant->struct_page_bytes, memmap);
	memmap_lay_out(memmap, 3);
	populate(variant, memmap);
	/* Tails that have become heads, the last lookup's first. */
	for (uint32_t i = PAGES; !is_identity(variant) && i--;) {
		uint32_t offset = memmap->offsets[i];
		struct page *page = memmap_at(memmap, offset);

		if (offset == memmap->heads[i] || (i % 100 && i != PAGES - 1))
			continue;
		page->compound_info = 0;
		first = i;
		check_damage(variant, memmap, ++wrong, first, offset * 8LL);
	}
	CHECK(wrong || is_identity(variant));

	/* Single pages; one of them has become the tail of its neighbour. */
	memmap_lay_out(memmap, 0);
	populate(variant, memmap);
	for (uint32_t i = 0; i < PAGES; i++) {
		uint32_t offset = memmap->offsets[i];
		char *page = memmap_at(memmap, offset);

		if (!(offset / memmap->words & 1) || i < PAGES / 2)
			continue;
		variant->init_tails(page, page - variant->struct_page_bytes, 1,
				    1);
		if (!is_identity(variant))
			check_damage(variant, memmap, 1, i,
				     (offset - memmap->words) * 8LL);
		else
			check_damage(variant, memmap, 0, 0, 0);
		break;
	}
	memmap_deinit(memmap);
	free(memmap);
}

static void test_code(const struct pb_variant *variant)
{
	static const uint32_t places[] = { 0, 1, 3, 7, 17, 63, 64 };
	const size_t arena_bytes = 256 << 10;
	struct memmap *memmap = malloc(sizeof(*memmap));
	size_t n = ARRAY_SIZE(places) * variant->probe_count, used = 0;
	size_t *at = malloc(n * sizeof(*at));
	char *arena;

	CHECK(memmap && at);
	memmap_init(variant->struct_page_bytes, memmap);
	memmap_lay_out(memmap, MAX_ORDER + 1);
	populate(variant, memmap);
	CHECK_EQ(pb_code_reserve(arena_bytes, (void **)&arena), 0);
	for (size_t i = 0; i < n; i++) {
		const struct pb_probe *probe =
			&variant->probes[i % variant->probe_count];
		size_t bytes =
			(const char *)probe->end - (const char *)probe->start;

		used = (used + 63) / 64 * 64 +
		       places[i / variant->probe_count] * INSTRUCTION_ALIGNMENT;
		CHECK(used + bytes < arena_bytes);
		pb_code_copy(arena + used, probe);
		at[i] = used;
		used += bytes;
		/* Nothing before, nothing behind. */
		CHECK_EQ(arena[used], 0);
	}
	CHECK_EQ(pb_code_seal(arena, arena_bytes), 0);
	for (size_t i = 0; i < n; i++) {
		const struct pb_probe *probe =
			&variant->probes[i % variant->probe_count];
		size_t entry =
			(const char *)probe->run - (const char *)probe->start;

		now_doing("%s over %u bytes, copy of %s at +%#zx",
			  variant->name, variant->struct_page_bytes,
			  probe->name, at[i]);
		CHECK_EQ(memcmp(arena + at[i], probe->start,
				(const char *)probe->end -
					(const char *)probe->start),
			 0);
		check_lookups(variant, probe,
			      (pb_probe_fn *)(arena + at[i] + entry), memmap);
	}
	free(at);
	pb_code_unreserve(arena, arena_bytes);
	memmap_deinit(memmap);
	free(memmap);
}

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	CHECK(fd >= 0);
	close(fd);
	return fd;
}

/* Layouts, with 64-byte struct pages and 2 MiB hugepages. */
enum { PLAIN, HVO, HVO_SHARED, LAYOUTS };
#define FRAME	     4096u
#define HVO_FRAMES   8
#define HVO_FOLIOS   2
#define HVO_PAGES    (HVO_FRAMES * HVO_FOLIOS)
#define HVO_PER_PAGE (FRAME / 64)

/* How many lookups of two folios may go wrong, by how a variant reads tails. */
static uint64_t wrong_over(const struct pb_variant *variant, int layout)
{
	if (is_identity(variant))
		return 0;
	if (layout == HVO && !variant->fixes_fake_heads)
		return HVO_FOLIOS * (HVO_FRAMES - 1);
	/* The shared tails' one word can point to one folio's head only. */
	if (layout == HVO_SHARED && !strcmp(variant->encoding, "pointer"))
		return (HVO_FRAMES - 1) * HVO_PER_PAGE;
	return 0;
}

/* Write back the byte at @at: -EFAULT where the mapping is read-only. */
static int try_write(void *at)
{
	int fds[2], err;

	CHECK_EQ(pipe(fds), 0);
	CHECK_EQ(write(fds[1], at, 1), 1);
	err = read(fds[0], at, 1) == 1 ? 0 : -errno;
	close(fds[0]);
	close(fds[1]);
	return err;
}

static void check_layout(const struct pb_variant *variant, int layout)
{
	const uint32_t pages = HVO_PAGES * HVO_PER_PAGE;
	uint32_t offsets[HVO_PAGES * HVO_PER_PAGE], heads[ARRAY_SIZE(offsets)];
	uint32_t frames[HVO_PAGES];
	uint8_t writable[HVO_PAGES];
	struct pb_folio folios[HVO_FOLIOS];
	struct pb_verification found;
	const int free_fd = lowest_free_fd();
	void *base, *all;
	int32_t fd = -1;

	for (uint32_t i = 0; i < HVO_PAGES; i++) {
		bool first = i % HVO_FRAMES == 0;

		writable[i] = layout == PLAIN || first;
		if (layout == HVO)
			frames[i] = i / HVO_FRAMES * HVO_FRAMES;
		else if (layout == HVO_SHARED && !first)
			frames[i] = 1;
		else
			frames[i] = i;
	}
	for (uint32_t i = 0; i < pages; i++) {
		offsets[i] = i * 64 / 8;
		heads[i] = offsets[is_identity(variant) ? i : i >> 9 << 9];
	}
	for (uint32_t i = 0; i < HVO_FOLIOS; i++)
		folios[i] = (struct pb_folio){
			.head = heads[i << 9],
			.order = 9,
			.pages = layout == PLAIN ? 0 : HVO_PER_PAGE,
		};

	CHECK_EQ(pb_frames_create(HVO_PAGES * FRAME, &fd), 0);
	CHECK_EQ(fd, free_fd);
	CHECK_EQ(pb_map_reserve(HVO_PAGES * FRAME, HVO_FRAMES * FRAME, &base),
		 0);
	CHECK_EQ((uintptr_t)base % (HVO_FRAMES * FRAME), 0);
	CHECK_EQ(pb_map_frames(base, fd, frames, writable, HVO_PAGES), 0);
	CHECK_EQ(pb_map_all(fd, HVO_PAGES * FRAME, &all), 0);
	for (uint32_t i = 0; i < HVO_PAGES; i++)
		CHECK_EQ(try_write((char *)base + i * FRAME + i),
			 writable[i] ? 0 : -EFAULT);

	pb_memmap_populate(variant, base, folios, HVO_FOLIOS);
	if (layout == HVO_SHARED)
		pb_memmap_tails(variant, (char *)all + FRAME, base, 9,
				HVO_PER_PAGE, true);
	/* What was written through one mapping is there in the other. */
	for (uint32_t i = 0; i < HVO_PAGES; i++)
		CHECK_EQ(memcmp((char *)base + i * FRAME,
				(char *)all + frames[i] * FRAME, FRAME),
			 0);

	for (uint32_t i = 0; i < variant->probe_count; i++) {
		if (!only_reads_heads(&variant->probes[i]))
			continue;
		now_doing("%s, %s, layout %d", variant->name,
			  variant->probes[i].name, layout);
		pb_memmap_verify(variant->probes[i].run, base, offsets, heads,
				 pages, &found);
		CHECK_EQ(found.wrong, wrong_over(variant, layout));
	}

	pb_unmap(base, HVO_PAGES * FRAME);
	pb_unmap(all, HVO_PAGES * FRAME);
	pb_frames_destroy(fd);
	CHECK_EQ(lowest_free_fd(), free_fd);
}

static void test_layouts(const struct pb_variant *variant)
{
	if (variant->struct_page_bytes != 64)
		return;
	for (int layout = 0; layout < LAYOUTS; layout++) {
		now_doing("%s, layout %d", variant->name, layout);
		check_layout(variant, layout);
	}
}

static void test_frames_refused(void)
{
	const int free_fd = lowest_free_fd();
	uint32_t frame = 0;
	uint8_t writable = 1;
	void *base, *all = &frame;

	CHECK_EQ(pb_map_reserve(FRAME, FRAME, &base), 0);
	CHECK_EQ(pb_map_frames(base, free_fd, &frame, &writable, 1), -EBADF);
	CHECK_EQ(pb_map_all(free_fd, FRAME, &all), -EBADF);
	CHECK(all == &frame);
	pb_unmap(base, FRAME);
}

static void test_registry(void)
{
	const struct pb_variant *const *all;
	size_t n = pb_variants(&all);

	CHECK(n);
	CHECK(strstr(pb_variant_cflags(), "-O2"));
	CHECK(*pb_compiler());
	CHECK(pb_built_commit());
	printf("%s\n%zu variants:", pb_compiler(), n);
	for (size_t i = 0; i < n; i++)
		printf(" %s/%u", all[i]->name, all[i]->struct_page_bytes);
	printf("\n");
}

static void test_reserve(void)
{
	static const uint32_t backings[] = { PB_BACKING_4K, PB_BACKING_2M };

	for (size_t b = 0; b < ARRAY_SIZE(backings); b++) {
		for (unsigned int shift = 3; shift <= 22; shift++) {
			size_t bytes = 3 * 4096 + 8;
			char *base = NULL;

			now_doing("reserve backing %u, alignment 1 << %u",
				  backings[b], shift);
			CHECK_EQ(pb_reserve(bytes, (size_t)1 << shift,
					    backings[b], (void **)&base),
				 0);
			CHECK_EQ((uintptr_t)base & ((1UL << shift) - 1), 0);
			for (size_t i = 0; i < bytes; i++)
				CHECK_EQ(base[i], 0);
			/* Not handed out again as it is. */
			memset(base, GARBAGE, bytes);
			pb_unreserve(base);
		}
	}
}

/* What is refused leaves its result alone. */
static void test_reserve_refused(void)
{
	static const size_t alignments[] = { 0, 3, 4097, SIZE_MAX };
	static const size_t sizes[] = { TOO_MUCH, SIZE_MAX - 8192, SIZE_MAX };
	char sentinel;
	void *base = &sentinel;

	for (size_t i = 0; i < ARRAY_SIZE(alignments); i++)
		CHECK_EQ(pb_reserve(4096, alignments[i], PB_BACKING_4K, &base),
			 -EINVAL);
	CHECK_EQ(pb_reserve(0, 4096, PB_BACKING_4K, &base), -EINVAL);
	/* ENOMEM, or EINVAL under valgrind. */
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		CHECK(pb_reserve(sizes[i], 4096, PB_BACKING_4K, &base) < 0);
		CHECK(pb_reserve(sizes[i], 4096, PB_BACKING_2M, &base) < 0);
		CHECK(pb_map_reserve(sizes[i], 4096, &base) < 0);
		CHECK(pb_code_reserve(sizes[i], &base) < 0);
	}
	CHECK(base == &sentinel);
}

/* A recording loop's two words, and a loop that records each of its offsets. */
static uint64_t *record_words[2];

static const void *recording_loop(const void *base, const uint32_t *offsets,
				  size_t n)
{
	uint64_t *at = record_words[0];

	for (size_t i = 0; i < n; i++)
		*at++ = offsets[i];
	record_words[1] = at;
	return (const char *)base + n;
}

static void test_recorder(void)
{
	uint64_t *const words[2] = { (uint64_t *)&record_words[0],
				     (uint64_t *)&record_words[1] };
	/* For one more than pages of 64 KiB have room for. */
	static uint32_t offsets[(1 << 13) + 1];
	const size_t room = 4096 / sizeof(uint64_t);
	struct pb_recorder recorder = { .bytes = 1 };
	struct sigaction before, after;
	const void *last;
	size_t n = 0;

	CHECK_EQ(pb_recorder_init(0, &recorder), -EINVAL);
	CHECK_EQ(pb_recorder_init(SIZE_MAX / 32, &recorder), -EINVAL);
	CHECK_EQ(recorder.bytes, 1);
	CHECK_EQ(pb_recorder_init(room, &recorder), 0);
	CHECK(recorder.bytes >= room * sizeof(uint64_t));
	for (uint32_t i = 0; i < ARRAY_SIZE(offsets); i++)
		offsets[i] = draw(1000);
	CHECK_EQ(sigaction(SIGSEGV, NULL, &before), 0);
	for (int again = 0; again < 2; again++) {
		size_t fits = recorder.bytes / sizeof(uint64_t);

		CHECK_EQ(pb_recorder_run(&recorder, words, recording_loop,
					 words, offsets, fits, &last, &n),
			 0);
		CHECK_EQ(n, fits);
		CHECK_EQ((const char *)last - (const char *)words, fits);
		for (size_t i = 0; i < n; i++)
			CHECK_EQ(recorder.records[i], offsets[i]);
		/* What a checker would take for our mistake. */
		if (!getenv("CORE_WITHOUT_FAULTS"))
			CHECK_EQ(pb_recorder_run(&recorder, words,
						 recording_loop, words, offsets,
						 fits + 1, &last, &n),
				 -ENOBUFS);
	}
	CHECK_EQ(sigaction(SIGSEGV, NULL, &after), 0);
	CHECK(before.sa_handler == after.sa_handler);
	pb_recorder_deinit(&recorder);
}

static void spin(uint64_t ns)
{
	uint64_t start = pb_gettime();

	while (pb_gettime() - start < ns)
		;
}

static void test_clock(void)
{
	static const uint32_t kinds[] = { PB_CLOCK_COUNTER, PB_CLOCK_GETTIME };
	struct pb_clock clock = { .kind = 12345 };

	CHECK_EQ(pb_clock_init(PB_CLOCK_GETTIME + 1, 0, &clock), -EINVAL);
	CHECK_EQ(clock.kind, 12345);
	CHECK(pb_clock_best() <= PB_CLOCK_GETTIME);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t before, outer, first, inner, last;
		double ns;

		now_doing("clock of kind %u", kinds[i]);
		CHECK_EQ(pb_clock_init(kinds[i], 5000000, &clock), 0);
		CHECK_EQ(clock.kind, kinds[i]);
		/* From counters of 1 MHz to cycle counters of 10 GHz. */
		CHECK(clock.ticks_per_ns > 0.0009 && clock.ticks_per_ns < 10);
		CHECK(kinds[i] == PB_CLOCK_COUNTER || clock.ticks_per_ns == 1);
		CHECK(isfinite(clock.granularity_ns));
		CHECK(clock.granularity_ns > 0);

		last = pb_clock_read(&clock);
		for (int reads = 0; reads < 1000; reads++) {
			first = last;
			last = pb_clock_read(&clock);
			CHECK(last >= first);
		}

		/* However often interrupted: within the outer, not the inner. */
		outer = pb_gettime();
		first = pb_clock_read(&clock);
		before = pb_gettime();
		spin(5000000);
		inner = pb_gettime() - before;
		last = pb_clock_read(&clock);
		outer = pb_gettime() - outer;
		ns = (double)(last - first) / clock.ticks_per_ns;
		CHECK(ns > 0.5 * (double)inner);
		CHECK(ns < 2 * (double)outer);
	}
}

static uint64_t least_ticks(const struct pb_clock *clock, uint32_t cycles)
{
	uint32_t offset = 0;
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 9; i++) {
		struct pb_sample sample = {
			.run = pb_core_cycles,
			.base = &offset,
			.offsets = &offset,
			.lookups = cycles,
		};

		CHECK_EQ(pb_sampler_run(clock, &sample, 1), 0);
		CHECK(sample.last == &offset);
		if (sample.ticks < least)
			least = sample.ticks;
	}
	return least;
}

static void test_core_cycles(void)
{
	static const size_t lengths[] = { 1, 63, 64, 65, 10000 };
	struct pb_clock clock;
	char base[1];

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		CHECK(pb_core_cycles(base, NULL, lengths[i]) == base);
	CHECK_EQ(pb_clock_init(pb_clock_best(), 1000000, &clock), 0);
	/* Longer chains take longer: five times, where it should be a hundred. */
	CHECK(least_ticks(&clock, 640000) > 5 * least_ticks(&clock, 6400));
}

static void test_sampler(void)
{
	enum { BATCHES = 30, LOOKUPS = PAGES / 2, WARM_UP = 100 };
	static const uint32_t kinds[] = { PB_CLOCK_COUNTER, PB_CLOCK_GETTIME };
	struct memmap *memmap = malloc(sizeof(*memmap));
	const struct pb_variant *const *all;
	const struct pb_probe **again;
	struct pb_sample samples[BATCHES];
	struct pb_clock clock;
	size_t n = 0;

	pb_variants(&all);
	again = malloc(all[0]->probe_count * sizeof(*again));
	CHECK(memmap && again);
	memmap_init(all[0]->struct_page_bytes, memmap);
	memmap_lay_out(memmap, MAX_ORDER + 1);
	populate(all[0], memmap);
	for (uint32_t i = 0; i < all[0]->probe_count; i++)
		if (leaves_counts(&all[0]->probes[i]))
			again[n++] = &all[0]->probes[i];
	CHECK(n);
	for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		const struct pb_probe *probe;

		CHECK_EQ(pb_clock_init(kinds[kind], 1000000, &clock), 0);
		for (uint32_t i = 0; i < BATCHES; i++)
			samples[i] = (struct pb_sample){
				.run = again[i % n]->run,
				.base = memmap->base,
				.offsets = memmap->offsets + i,
				.warm_up = i % 2 ? WARM_UP : 0,
				.lookups = LOOKUPS + i,
				.ticks = UINT64_MAX,
				.switches = UINT64_MAX,
			};
		CHECK_EQ(pb_sampler_run(&clock, samples, BATCHES), 0);
		for (uint32_t i = 0; i < BATCHES; i++) {
			probe = again[i % n];
			now_doing("clock of kind %u, sample %u", kinds[kind],
				  i);
			/* 0 where reading the clock costs as much, as in qemu. */
			CHECK(samples[i].ticks < UINT64_MAX / 2);
			CHECK(samples[i].switches < 1000);
			CHECK(samples[i].last ==
			      probe->run(memmap->base,
					 samples[i].offsets +
						 samples[i].warm_up +
						 samples[i].lookups - 1,
					 1));
		}

		/* What came before the wrong one is done, the rest is not. */
		samples[0].ticks = samples[2].ticks = UINT64_MAX;
		samples[1].lookups = 0;
		CHECK_EQ(pb_sampler_run(&clock, samples, 3), -EINVAL);
		CHECK(samples[0].ticks != UINT64_MAX);
		CHECK(samples[2].ticks == UINT64_MAX);
		CHECK_EQ(pb_sampler_run(&clock, samples, 0), 0);
	}
	free(again);
	memmap_deinit(memmap);
	free(memmap);
}

static void test_pin(void)
{
	cpu_set_t before, after;
	uint32_t cpu = 0;

	CHECK_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CHECK_EQ(pb_pin(UINT32_MAX), -EINVAL);
	CHECK_EQ(pb_pin(CPU_SETSIZE), -EINVAL);
	/* Of the set, yet no CPU that there is. */
	if (!CPU_ISSET(CPU_SETSIZE - 1, &before))
		CHECK_EQ(pb_pin(CPU_SETSIZE - 1), -EINVAL);
	CHECK_EQ(pb_pin(cpu), 0);
	CHECK_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
	CHECK_EQ(CPU_COUNT(&after), 1);
	CHECK(CPU_ISSET(cpu, &after));
	CHECK_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void test_counters_parse(void)
{
	static const struct pb_counters counters = {
		.fd = { 3, 4, -1, -1, -1, -1 },
		.id = { 71, 72 },
	};
	static const uint64_t good[] = { 2, 40, 10, 7, 72, 1000, 71 };
	static const uint64_t idle[] = { 2, 40, 0, 7, 72, 1000, 71 };
	static const uint64_t bad[][7] = {
		{ 3, 40, 10, 7, 72, 1000, 71 }, /* more than there are */
		{ 1, 40, 10, 7, 72, 1000, 71 }, /* fewer than there are */
		{ UINT64_MAX, 40, 10, 7, 72, 1000, 71 },
		{ 2, 40, 10, 7, 72, 1000, 73 }, /* another's event */
		{ 2, 40, 10, 7, 72, 1000, 0 }, /* the id of one refused */
		{ 2, 40, 10, 7, 72, 1000, 72 }, /* twice the same */
	};
	struct pb_counts counts;

	CHECK_EQ(pb_counters_parse(&counters, good, 7, &counts), 0);
	CHECK_EQ(counts.valid,
		 1 << PB_EVENT_CYCLES | 1 << PB_EVENT_INSTRUCTIONS);
	CHECK_EQ(counts.value[PB_EVENT_CYCLES], 4000);
	CHECK_EQ(counts.value[PB_EVENT_INSTRUCTIONS], 28);
	CHECK_EQ(counts.enabled_ns, 40);
	CHECK_EQ(counts.running_ns, 10);
	CHECK_EQ(pb_counters_parse(&counters, idle, 7, &counts), 0);
	CHECK_EQ(counts.valid, 0);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		now_doing("counters, bad read %zu", i);
		CHECK_EQ(pb_counters_parse(&counters, bad[i], 7, &counts),
			 -EINVAL);
	}
	for (size_t words = 0; words < 7; words++) {
		/* Exactly so many: a sanitizer sees one read too far. */
		uint64_t *cut = malloc(words * sizeof(*cut) + !words);

		CHECK(cut);
		memcpy(cut, good, words * sizeof(*cut));
		now_doing("counters, %zu words", words);
		CHECK_EQ(pb_counters_parse(&counters, cut, words, &counts),
			 -EINVAL);
		free(cut);
	}
}

/* With a PMU they count, without they say so; no descriptor is lost. */
static void test_counters(void)
{
	const int free_fd = lowest_free_fd();
	struct pb_counters counters, untouched;
	struct rlimit limit, none;
	uint32_t offset = 0;
	struct pb_sample sample = {
		.run = pb_core_cycles,
		.base = &offset,
		.offsets = &offset,
		.lookups = 6400,
		.ticks = 5,
	};
	struct pb_counts counts;
	int err;

	memset(&untouched, GARBAGE, sizeof(untouched));
	memset(&counters, GARBAGE, sizeof(counters));
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)free_fd;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	err = pb_counters_init(&counters);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK(err < 0);
	CHECK_EQ(memcmp(&counters, &untouched, sizeof(counters)), 0);
	CHECK_EQ(lowest_free_fd(), free_fd);

	err = pb_counters_init(&counters);
	if (err) {
		CHECK(err < 0);
		CHECK_EQ(memcmp(&counters, &untouched, sizeof(counters)), 0);
		printf("no hardware counters: %s\n", strerror(-err));
	} else {
		CHECK_EQ(pb_counters_run(&counters, &sample, &counts), 0);
		CHECK(sample.last == &offset);
		CHECK_EQ(sample.ticks, 5);
		sample.lookups = 0;
		CHECK_EQ(pb_counters_run(&counters, &sample, &counts), -EINVAL);
		pb_counters_deinit(&counters);
		pb_counters_deinit(&counters);
	}
	CHECK_EQ(lowest_free_fd(), free_fd);
}

enum { STREAM = 5000 };

/* Accesses of every class to few enough lines, every other of them in a row. */
static void draw_accesses(uint64_t *accesses, uint32_t lines)
{
	for (uint32_t i = 0; i < STREAM; i++)
		accesses[i] = (i % 2 ? draw(lines) : i / 2 % lines) |
			      (uint64_t)draw(4) << 40 |
			      (uint64_t)(i % 2) << 48 | (uint64_t)draw(8) << 56;
}

static void run_sim(const struct pb_cachesim_geometry *geometry, uint32_t simd,
		    const uint64_t *accesses, uint8_t *outcome,
		    struct pb_cache_counts *ret)
{
	struct pb_cachesim *sim = NULL;

	CHECK_EQ(pb_cachesim_create(geometry, simd, &sim), 0);
	memset(ret, 0, sizeof(*ret));
	/* Not a whole number of batches, nor of vectors. */
	CHECK_EQ(pb_cachesim_run(sim, accesses, STREAM - 1001, outcome, ret),
		 0);
	CHECK_EQ(pb_cachesim_run(sim, accesses + STREAM - 1001, 1001,
				 outcome ? outcome + STREAM - 1001 : NULL, ret),
		 0);
	CHECK_EQ(pb_cachesim_run(sim, accesses, 0, outcome, ret), 0);
	pb_cachesim_destroy(sim);
}

/* With outcomes or without, by every set of instructions: the same. */
static void test_cachesim_lru(void)
{
	static const uint32_t sets[] = { 1, 3, 64, 100, 4096 };
	uint64_t *accesses = malloc(STREAM * sizeof(*accesses));
	uint8_t *outcome = malloc(STREAM);
	struct pb_cache_counts want, got;

	CHECK(accesses && outcome);
	for (uint32_t ways = 1; ways <= PB_CACHE_WAYS; ways++) {
		for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
			struct pb_cachesim_geometry geometry = {
				.levels = 3,
				.cache = { { .sets = sets[i], .ways = ways },
					   { .sets = 2 * sets[i], .ways = 16 },
					   { .sets = 300, .ways = ways } },
			};
			uint64_t left[4] = { 0 };

			now_doing("caches of %u ways, %u sets", ways, sets[i]);
			draw_accesses(accesses, 2 * sets[i] * ways + 1);
			run_sim(&geometry, PB_SIMD_NONE, accesses, outcome,
				&want);
			for (uint32_t simd = PB_SIMD_NONE;
			     simd <= PB_SIMD_AVX512; simd++) {
				struct pb_cachesim *sim;

				if (pb_cachesim_create(&geometry, simd, &sim))
					continue;
				pb_cachesim_destroy(sim);
				run_sim(&geometry, simd, accesses, NULL, &got);
				CHECK_EQ(memcmp(&got, &want, sizeof(got)), 0);
			}
			for (uint32_t j = 0; j < STREAM; j++)
				left[outcome[j]]++;
			for (uint32_t level = 3; level--;) {
				left[level] += left[level + 1];
				for (uint32_t j = 0; j < PB_ACCESS_CLASSES; j++)
					left[level + 1] -=
						want.misses[level][j];
				CHECK_EQ(left[level + 1], 0);
			}
			CHECK_EQ(left[0], STREAM);
		}
	}
	free(accesses);
	free(outcome);
}

/* Every other kind of cache: what must hold of any. */
static void test_cachesim_options(void)
{
	uint64_t *accesses = malloc(STREAM * sizeof(*accesses));
	uint8_t *outcome = malloc(STREAM);
	struct pb_cache_counts counts, again;

	CHECK(accesses && outcome);
	draw_accesses(accesses, 3000);
	for (uint32_t i = 0; i < 3 * 3 * 4; i++) {
		uint32_t policy = i % 3, prefetch = i / 3 % 3;
		struct pb_cachesim_geometry geometry = {
			.levels = 2,
			.cache = { { 16, 8, policy, prefetch },
				   { 75, 16, policy, prefetch } },
			.inclusive = i / 9 % 2,
			.way_predictor = i / 18,
		};
		uint64_t aliases = 0, misses = 0;

		now_doing("caches of policy %u, prefetch %u, options %u",
			  policy, prefetch, i / 9);
		run_sim(&geometry, PB_SIMD_BEST, accesses, outcome, &counts);
		run_sim(&geometry, PB_SIMD_BEST, accesses, NULL, &again);
		CHECK_EQ(memcmp(&counts, &again, sizeof(counts)), 0);
		for (uint32_t j = 0; j < STREAM; j++) {
			CHECK((outcome[j] & ~PB_OUTCOME_ALIAS) <= 2);
			CHECK(!(outcome[j] & PB_OUTCOME_ALIAS) ||
			      outcome[j] == PB_OUTCOME_ALIAS);
			aliases += outcome[j] == PB_OUTCOME_ALIAS;
			misses += (outcome[j] & 3) == 2;
		}
		for (uint32_t j = 0; j < PB_ACCESS_CLASSES; j++) {
			aliases -= counts.aliases[j];
			misses -= counts.misses[1][j];
		}
		CHECK_EQ(aliases, 0);
		CHECK_EQ(misses, 0);
		CHECK_EQ(!counts.prefetches, prefetch == PB_PREFETCH_NONE);
	}
	free(accesses);
	free(outcome);
}

static void test_cachesim_refused(void)
{
	static const struct pb_cachesim_geometry good = {
		.levels = 1,
		.cache = { { .sets = 1, .ways = 2 } },
	};
	struct pb_cachesim_geometry bad[10];
	struct pb_cachesim *sim = (struct pb_cachesim *)&bad;
	struct pb_cache_counts counts = { .prefetches = 0 };
	uint64_t access = UINT32_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].levels = 0;
	bad[1].levels = PB_CACHE_LEVELS + 1;
	bad[2].cache[0].sets = 0;
	bad[3].cache[0].sets = PB_CACHE_SETS + 1;
	bad[4].cache[0].ways = 0;
	bad[5].cache[0].ways = PB_CACHE_WAYS + 1;
	bad[6].cache[0].policy = PB_POLICY_RANDOM + 1;
	bad[7].cache[0].prefetch = PB_PREFETCH_STRIDE + 1;
	bad[8].tlb_4k[1].sets = 1;
	bad[9].tlb_2m[0] = (struct pb_tlb){ PB_TLB_ENTRIES, 2 };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		now_doing("caches, bad geometry %zu", i);
		CHECK_EQ(pb_cachesim_create(&bad[i], PB_SIMD_BEST, &sim),
			 -EINVAL);
	}
	CHECK_EQ(pb_cachesim_create(&good, PB_SIMD_AVX512 + 1, &sim), -EINVAL);
	CHECK(sim == (struct pb_cachesim *)&bad);
	pb_cachesim_destroy(NULL);

	CHECK_EQ(pb_cachesim_create(&good, PB_SIMD_BEST, &sim), 0);
	CHECK_EQ(pb_cachesim_run(sim, &access, 1, NULL, &counts), -ERANGE);
	access--;
	CHECK_EQ(pb_cachesim_run(sim, &access, 1, NULL, &counts), 0);
	CHECK_EQ(counts.accesses[0], 1);
	pb_cachesim_destroy(sim);
}

static void test_translate(void)
{
	enum { PAGES_4K = 5, FIRST = 3 };
	static const struct pb_cachesim_geometry geometry = {
		.levels = 1,
		.cache = { { .sets = 64, .ways = 8 } },
		.tlb_4k = { { .sets = 1, .ways = 2 },
			    { .sets = 2, .ways = 1 } },
		.unified_first = 1,
		.unified_second = 1,
	};
	struct pb_cache_counts counts = { .prefetches = 0 };
	/* Exactly so many: a sanitizer sees one too far. */
	uint32_t *frames = malloc(PAGES_4K * sizeof(*frames));
	uint32_t huge = 9;
	const uint64_t begin = (uint64_t)FIRST << 12, large = 1ULL << 40;
	struct pb_region regions[] = {
		{ begin, begin + (PAGES_4K << 12), 12, 2, frames, 1000 },
		{ large, large + (1 << 21), 21, 3, &huge, 2000 },
	};
	uint64_t records[2 * PAGES_4K + 2], *accesses;
	struct pb_cachesim *sim;
	size_t n = 0;

	CHECK(frames);
	for (uint32_t i = 0; i < PAGES_4K; i++) {
		frames[i] = 10 * i;
		records[2 * i] = begin + (i << 12) + 64;
		records[2 * i + 1] = 1ULL << 63 | i;
	}
	records[2 * PAGES_4K] = large + (5 << 12);
	records[2 * PAGES_4K + 1] = 7ULL << 48 | (large + (1 << 21) - 1);
	accesses = malloc(2 * ARRAY_SIZE(records) * sizeof(*accesses));
	CHECK(accesses);
	CHECK_EQ(pb_cachesim_create(&geometry, 0, &sim), 0);
	CHECK_EQ(pb_cachesim_translate(sim, regions, 2, records,
				       ARRAY_SIZE(records), &counts, accesses,
				       &n),
		 0);
	/* A walk before each but the last, which has the page before it. */
	CHECK_EQ(n, 2 * PAGES_4K + 3);
	for (uint32_t i = 0; i < PAGES_4K; i++) {
		CHECK_EQ(accesses[2 * i],
			 7ULL << 56 | (1000 + (FIRST + i) / 8));
		CHECK_EQ(accesses[2 * i + 1] & ~(0xffULL << 40),
			 2ULL << 56 | (640 * i + 1));
	}
	CHECK_EQ(accesses[n - 1] & ~(0xffULL << 40),
		 3ULL << 56 | 7ULL << 48 | (10 * (1 << 15) - 1));
	CHECK_EQ(counts.tlb_misses[1][2], PAGES_4K);
	CHECK_EQ(counts.tlb_misses[1][3], 1);

	records[3] = records[2 * PAGES_4K] - (6 << 12);
	CHECK_EQ(pb_cachesim_translate(sim, regions, 2, records,
				       ARRAY_SIZE(records), &counts, accesses,
				       &n),
		 -EFAULT);
	CHECK_EQ(n, 3);
	huge = 1 << 23;
	CHECK_EQ(pb_cachesim_translate(sim, regions, 2, records + 2 * PAGES_4K,
				       2, &counts, accesses, &n),
		 -ERANGE);
	CHECK_EQ(n, 0);
	regions[1].begin++;
	CHECK_EQ(pb_cachesim_translate(sim, regions, 2, records, 1, &counts,
				       accesses, &n),
		 -EINVAL);
	CHECK_EQ(pb_cachesim_translate(sim, NULL, 0, NULL, 0, &counts, NULL,
				       &n),
		 0);
	CHECK_EQ(n, 0);
	pb_cachesim_destroy(sim);
	free(frames);
	free(accesses);
}

static void test_predictor(void)
{
	enum { TURNS = 1000, PERIOD = 7 };
	static const uint64_t at_most[] = { TURNS + PERIOD, 200, 200 };
	uint64_t records[PERIOD * 2 * TURNS];
	struct pb_predictor *predictor;

	for (uint32_t i = 0; i < ARRAY_SIZE(records); i++)
		records[i] = i % 2 ? i
				   : 1ULL << 63 | 3ULL << 48 |
					     (i / 2 % PERIOD != 0);
	for (uint32_t kind = 0; kind <= PB_PREDICTOR_TAGE; kind++) {
		uint64_t branches[PB_BRANCH_SITES] = { 0 };
		uint64_t misses[PB_BRANCH_SITES] = { 0 };
		uint64_t beyond = 1ULL << 63 | (uint64_t)PB_BRANCH_SITES << 48;

		now_doing("predictor of kind %u", kind);
		CHECK_EQ(pb_predictor_create(kind, &predictor), 0);
		CHECK_EQ(pb_predictor_run(predictor, records,
					  ARRAY_SIZE(records), branches,
					  misses),
			 0);
		CHECK_EQ(branches[3], PERIOD * TURNS);
		CHECK(misses[3] > 0);
		CHECK(misses[3] <= at_most[kind]);
		CHECK_EQ(pb_predictor_run(predictor, &beyond, 1, branches,
					  misses),
			 -ERANGE);
		/* Long enough that usefulness fades, at random. */
		for (uint32_t i = 0; i < 300000; i++) {
			uint64_t record = 1ULL << 63 | draw(2) |
					  (uint64_t)draw(64) << 48;

			CHECK_EQ(pb_predictor_run(predictor, &record, 1,
						  branches, misses),
				 0);
		}
		pb_predictor_destroy(predictor);
	}
	CHECK_EQ(pb_predictor_create(PB_PREDICTOR_TAGE + 1, &predictor),
		 -EINVAL);
	pb_predictor_destroy(NULL);
}

#define FLAG(n)	  (1ULL << (n))
#define HEAD_FLAG FLAG(15)
#define TAIL_FLAG FLAG(16)
#define THP_FLAG  FLAG(22)

/* Folds @flags in pieces that are drawn: all runs there are. */
static size_t fold_all(struct pb_fold *fold, const uint64_t *flags, size_t n,
		       int cut, struct pb_run *runs)
{
	size_t ended = 0, piece;

	for (size_t i = 0; i < n; i += piece) {
		piece = 1 + draw((uint32_t)(n - i));
		/* Exactly as large as is promised to be enough. */
		struct pb_run *some =
			malloc((piece + PB_RUNS_SPARE) * sizeof(*some));
		size_t more = pb_fold_pages(fold, flags + i, piece, some);

		CHECK(some);
		CHECK(more <= piece + PB_RUNS_SPARE);
		memcpy(runs + ended, some, more * sizeof(*some));
		ended += more;
		free(some);
	}
	return ended + pb_fold_end(fold, cut, runs + ended);
}

/* Folios of drawn orders come back; torn ones add up to as many pages. */
static void test_fold(void)
{
	static uint64_t flags[PAGES];
	static struct pb_run runs[PAGES + PB_RUNS_SPARE];
	struct pb_fold fold;
	size_t n = 0, folios = 0, ended, found = 0, pfn = 0;

	while (n < PAGES) {
		uint32_t order = draw(MAX_ORDER + 1);

		while (n & ((1u << order) - 1))
			order--;
		for (uint32_t i = 0; i < 1u << order; i++)
			flags[n++] = THP_FLAG | (i ? TAIL_FLAG : HEAD_FLAG);
		folios++;
	}
	pb_fold_init(0, &fold);
	ended = fold_all(&fold, flags, PAGES, 0, runs);
	for (size_t i = 0; i < ended; i++) {
		CHECK_EQ(runs[i].kind, PB_KIND_LARGE);
		CHECK(!i || runs[i].order != runs[i - 1].order);
		for (uint64_t k = 0; k < runs[i].count; k++, found++) {
			CHECK(flags[pfn] & HEAD_FLAG);
			pfn += 1u << runs[i].order;
		}
	}
	CHECK_EQ(found, folios);
	CHECK_EQ(pfn, PAGES);
	CHECK_EQ(fold.torn, 0);

	for (size_t i = 0; i < PAGES; i++)
		flags[i] = (uint64_t)draw(1u << 31) << 11 ^ draw(1u << 31);
	for (int cut = 0; cut < 2; cut++) {
		pb_fold_init(5, &fold);
		ended = fold_all(&fold, flags, PAGES, cut, runs);
		CHECK(fold.pfn == 5 + PAGES || cut);
		pfn = fold.first;
		for (size_t i = 0; i < ended; i++) {
			CHECK(runs[i].kind < PB_KINDS);
			CHECK(!(pfn & ((1u << runs[i].order) - 1)));
			pfn += runs[i].count << runs[i].order;
		}
		CHECK_EQ(pfn, fold.pfn);
	}

	for (size_t i = 0; i < PAGES; i++)
		flags[i] = TAIL_FLAG;
	pb_fold_init(7, &fold);
	CHECK_EQ(fold_all(&fold, flags, PAGES, 0, runs), 0);
	CHECK_EQ(fold.first, 7 + PAGES);
}

static const struct {
	const char *name;
	void (*run)(const struct pb_variant *variant);
} variant_tests[] = {
	{ "description", test_description },
	{ "lookups", test_lookups },
	{ "encode", test_encode },
	{ "init_head and init_tails", test_init_page },
	{ "partial folios", test_partial_folios },
	{ "writing tails", test_writing_tails },
	{ "damage", test_damage },
	{ "code", test_code },
	{ "layouts", test_layouts },
};

static const struct {
	const char *name;
	void (*run)(void);
} plain_tests[] = {
	{ "registry", test_registry },
	{ "reserve", test_reserve },
	{ "reserve, refused", test_reserve_refused },
	{ "frames, refused", test_frames_refused },
	{ "recorder", test_recorder },
	{ "clock", test_clock },
	{ "core cycles", test_core_cycles },
	{ "sampler", test_sampler },
	{ "pin", test_pin },
	{ "counters, parsing", test_counters_parse },
	{ "counters", test_counters },
	{ "caches, LRU", test_cachesim_lru },
	{ "caches, options", test_cachesim_options },
	{ "caches, refused", test_cachesim_refused },
	{ "translation", test_translate },
	{ "predictors", test_predictor },
	{ "fold", test_fold },
};

int main(void)
{
	const struct pb_variant *const *all;
	size_t n = pb_variants(&all), passed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(plain_tests); i++, passed++) {
		now_doing("%s", plain_tests[i].name);
		plain_tests[i].run();
	}
	for (size_t v = 0; v < n; v++) {
		for (size_t i = 0; i < ARRAY_SIZE(variant_tests); i++) {
			now_doing("%s over %u bytes, %s", all[v]->name,
				  all[v]->struct_page_bytes,
				  variant_tests[i].name);
			variant_tests[i].run(all[v]);
			passed++;
		}
	}
	printf("%zu passed, 0 failed\n", passed);
	return 0;
}

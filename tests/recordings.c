// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs rewritten loops of another architecture and prints what they record, a
 * line each: number, result, memory, offsets, records.  LOOPS is a file of
 *
 *	LOOP(symbol, "variant", struct page bytes, "probe")
 *
 * An empty variant is none, but code by hand, over memory of numbers; all
 * others run over folios of argv[1] order, argv[2] pages, after a look at what
 * the timed loop does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pagebench.h"

#define MEMORY				    (1u << 16)
#define BEFORE				    4096
#define RECORDS				    (1u << 16)

#define LOOP(symbol, variant, bytes, probe) pb_probe_fn symbol;
#include LOOPS
#undef LOOP

static const struct loop {
	const char *variant;
	uint32_t struct_page_bytes;
	const char *probe;
	pb_probe_fn *recording;
} loops[] = {
#define LOOP(symbol, variant, bytes, probe) { variant, bytes, probe, symbol },
#include LOOPS
#undef LOOP
};

extern uint64_t *pb_records_begin, *pb_records_end;
static uint64_t *const words[] = { (uint64_t *)&pb_records_begin,
				   (uint64_t *)&pb_records_end };

static struct pb_recorder recorder;

static _Noreturn void fail(const struct loop *loop, const char *what)
{
	fprintf(stderr, "%s/%u %s: %s\n", loop->variant,
		loop->struct_page_bytes, loop->probe, what);
	exit(1);
}

static const void *record(const struct loop *loop, const void *base,
			  const uint32_t *offsets, size_t n, size_t *count)
{
	const void *last;

	if (pb_recorder_run(&recorder, words, loop->recording, base, offsets, n,
			    &last, count))
		fail(loop, "no room");
	return last;
}

static void print(const struct loop *loop, const void *base,
		  const uint32_t *offsets, size_t n)
{
	size_t count;
	const void *last = record(loop, base, offsets, n, &count);

	printf("%td %lu %lu %lu", loop - loops, (unsigned long)last,
	       (unsigned long)base, (unsigned long)offsets);
	for (size_t i = 0; i < count; i++)
		printf(" %lu", (unsigned long)recorder.records[i]);
	printf("\n");
}

static const struct pb_probe *probe_of(const struct loop *loop,
				       const struct pb_variant **variant)
{
	const struct pb_variant *const *all;
	size_t n = pb_variants(&all);

	for (size_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < all[i]->probe_count; j++)
			if (!strcmp(all[i]->name, loop->variant) &&
			    all[i]->struct_page_bytes ==
				    loop->struct_page_bytes &&
			    !strcmp(all[i]->probes[j].name, loop->probe)) {
				*variant = all[i];
				return &all[i]->probes[j];
			}
	fail(loop, "no such loop");
}

/* The same results and the same memory, by the loop that is timed and by the other. */
static void over_folios(const struct loop *loop, char *memory, uint32_t order,
			uint32_t pages)
{
	const struct pb_variant *variant;
	const struct pb_probe *probe = probe_of(loop, &variant);
	uint32_t unit = loop->struct_page_bytes / 8, step, n = 0;
	struct pb_folio *folios = calloc(pages, sizeof(*folios));
	uint32_t *offsets = calloc(pages, sizeof(*offsets));
	char *after = malloc(MEMORY);
	const void **results = calloc(pages, sizeof(*results));

	if (!folios || !offsets || !after || !results)
		fail(loop, "no memory");
	for (uint32_t i = 0; i < pages >> order; i++)
		folios[i] = (struct pb_folio){ .head = (i << order) * unit,
					       .order = order };
	step = probe->writes_tails ? 1u << order : 1;
	for (uint32_t page = 0; page < pages; page += step)
		offsets[n++] = page * unit;
	memset(memory, 0, MEMORY);
	pb_memmap_populate(variant, memory, folios, pages >> order);
	for (uint32_t i = 0; i < n; i++)
		results[i] = probe->run(memory, offsets + i, 1);
	memcpy(after, memory, MEMORY);

	memset(memory, 0, MEMORY);
	pb_memmap_populate(variant, memory, folios, pages >> order);
	for (uint32_t i = 0; i < n; i++) {
		size_t count;

		if (record(loop, memory, offsets + i, 1, &count) != results[i])
			fail(loop, "another result");
	}
	if (memcmp(after, memory, MEMORY))
		fail(loop, "another memory");
	print(loop, memory, offsets, n);
	free(results);
	free(after);
	free(offsets);
	free(folios);
}

int main(int argc, char **argv)
{
	/* As far as any offset of an instruction reaches. */
	char *memory = aligned_alloc(MEMORY, 2 * MEMORY);
	uint32_t offsets[8] = { 0 };

	if (argc != 3 || !memory || pb_recorder_init(RECORDS, &recorder))
		return 2;
	for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
		uint32_t order = (uint32_t)atoi(argv[1]),
			 n = (uint32_t)atoi(argv[2]);

		if (*loops[i].variant) {
			over_folios(&loops[i], memory, order, n);
			continue;
		}
		for (uint64_t j = 0; j < 2 * MEMORY / 8; j++)
			memcpy(memory + j * 8, &j, 8);
		print(&loops[i], memory + BEFORE, offsets, n);
	}
	pb_recorder_deinit(&recorder);
	free(memory);
	return 0;
}

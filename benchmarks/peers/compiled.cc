// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same probe functions over the same kind of memmap, measured by C++
 * libraries as their users would: see __main__.py.  GOOGLE or NANOBENCH says
 * which one.  Called with a footprint in bytes and the seconds for each of the
 * three; prints a line "NAME NS" for each, ns a lookup.
 */
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

extern "C" {
#include "pagebench.h"
}

#ifdef GOOGLE
#include <benchmark/benchmark.h>
#else
#define ANKERL_NANOBENCH_IMPLEMENT
#include <nanobench.h>
#endif

static const size_t LOOKUPS = 4096, WINDOW = 1 << 20;
static const uint32_t ORDER = 9, PAGE = 64;

struct Loop {
	const char *name;
	pb_probe_fn *run;
	const void *base;
};

static std::vector<uint32_t> offsets(WINDOW);
static std::vector<Loop> loops;
static size_t cursor;

static const void *next_window(const Loop &loop)
{
	cursor = (cursor + LOOKUPS) % WINDOW;
	return loop.run(loop.base, &offsets[cursor], LOOKUPS);
}

static const pb_variant *find(const char *name)
{
	const pb_variant *const *table;
	size_t count = pb_variants(&table);

	for (size_t i = 0; i < count; i++)
		if (!strcmp(table[i]->name, name) &&
		    table[i]->struct_page_bytes == PAGE)
			return table[i];
	abort();
}

/* A memmap of its own for each variant, since they write other words. */
static void add(const char *name, const char *variant_name, size_t bytes)
{
	const pb_variant *variant = find(variant_name);
	std::vector<pb_folio> folios;
	size_t folio = static_cast<size_t>(PAGE) << ORDER;
	void *base;

	bytes = bytes < folio ? folio : bytes / folio * folio;
	for (size_t at = 0; at < bytes; at += folio)
		folios.push_back({ static_cast<uint32_t>(at / 8), ORDER, 0 });
	if (pb_reserve(bytes, 2 << 20, PB_BACKING_2M, &base))
		abort();
	pb_memmap_populate(variant, base, folios.data(), folios.size());
	for (uint32_t i = 0; i < variant->probe_count; i++)
		if (!strcmp(variant->probes[i].name, "chain"))
			loops.push_back({ name, variant->probes[i].run, base });
}

int main(int argc, char **argv)
{
	size_t bytes = strtoull(argv[1], nullptr, 0);
	double seconds = atof(argv[2]);
	size_t pages = bytes / PAGE, spacing = 1;
	std::mt19937 random(std::random_device{}());

	/* Pages spread over the folio where its memmap is the larger. */
	if (bytes < static_cast<size_t>(PAGE) << ORDER)
		spacing = ((1u << ORDER) / pages - 1) | 1;
	for (uint32_t &offset : offsets)
		offset = static_cast<uint32_t>(random() % pages * spacing *
					       (PAGE / 8));
	add("A", "pointer-select", bytes);
	loops.push_back({ "A again", loops[0].run, loops[0].base });
	add("B", "branchless", bytes);
#ifdef GOOGLE
	char name[] = "peers", quiet[] = "--benchmark_format=json";
	char *args[] = { name, quiet };
	int count = 2;

	for (const Loop &loop : loops)
		benchmark::RegisterBenchmark(
			loop.name,
			[&loop](benchmark::State &state) {
				for (auto _ : state)
					benchmark::DoNotOptimize(
						next_window(loop));
			})
			->MinTime(seconds);
	benchmark::Initialize(&count, args);
	benchmark::RunSpecifiedBenchmarks();
#else
	for (const Loop &loop : loops) {
		ankerl::nanobench::Bench bench;

		bench.output(nullptr).epochs(11).minEpochTime(
			std::chrono::nanoseconds(
				static_cast<int64_t>(seconds * 1e9 / 11)));
		bench.run(loop.name, [&] {
			ankerl::nanobench::doNotOptimizeAway(next_window(loop));
		});
		printf("%s %.9g\n", loop.name,
		       bench.results()[0].median(
			       ankerl::nanobench::Result::Measure::elapsed) *
			       1e9 / LOOKUPS);
	}
#endif
	(void)argc;
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The whole API of the C core.  cffi reads this file with its '#' lines
 * dropped, so it holds plain declarations only.
 *
 * Functions that can fail return 0 or -errno and leave their result in the
 * last argument.  Nothing here allocates, prints or decides while it times.
 */
#ifndef PAGEBENCH_H
#define PAGEBENCH_H

#ifndef __KERNEL__
#include <stddef.h>
#include <stdint.h>
#endif

/*
 * One lookup loop.  @offsets holds n >= 1 pages as byte distances from @base
 * in units of 8 bytes: any struct page size, 32 GiB of reach.  Returns the
 * result of the last lookup.
 */
typedef const void *pb_probe_fn(const void *base, const uint32_t *offsets,
				size_t n);

/* What a probe returns of a page: its head, itself, itself if it has a count. */
enum pb_returns { PB_RETURNS_HEAD, PB_RETURNS_PAGE, PB_RETURNS_COUNTED };

/*
 * A probe, the bytes of its machine code, [start, end), and what one turn of
 * the loop does: how many compound_head() it calls; whether it touches the
 * head's line; whether it writes to counts, be it only to put them back; what
 * it adds to _refcount and _mapcount of the page that it returns.  One that
 * writes tails takes heads only, and no tail may be mapped read-only.
 */
struct pb_probe {
	const char *name;
	pb_probe_fn *run;
	const void *start;
	const void *end;
	uint32_t lookups;
	uint32_t returns;
	uint32_t uses_head;
	uint32_t writes_counts;
	uint32_t writes_tails;
	int32_t adds_refs;
	int32_t adds_maps;
};

/*
 * Where, in a probe's machine code, the variant's own instructions begin
 * (kind 0) and end (kind 1).  The address is that of the field plus where.
 */
struct pb_mark {
	int32_t where;
	int32_t kind;
};

/*
 * A folio in a memmap: its head's offset in units of 8 bytes, its order, and
 * how many of its struct pages, from the head on, are written through the
 * memmap: all of them if 0, fewer where the rest is mapped read-only.
 */
struct pb_folio {
	uint32_t head;
	uint32_t order;
	uint32_t pages;
};

/*
 * One compound_head() with its set_compound_head().  encoding is what that
 * writes, "pointer" or "mask", and form what every compiler makes of the tail
 * test: "branch", "select", "arith", "none"; both empty where nothing is
 * promised.  fixes_fake_heads: it has code for them.  init_head() writes a
 * whole struct page, init_tails() n of them in a row; encode_tails() writes
 * only the words that set_compound_head() writes.
 */
struct pb_variant {
	const char *name;
	const char *commit;
	const char *subject;
	const char *version;
	const char *encoding;
	const char *form;
	uint32_t fixes_fake_heads;
	uint32_t struct_page_bytes;
	uint32_t mapcount_at;
	uint32_t refcount_at;
	uint32_t probe_count;
	const struct pb_probe *probes;
	const struct pb_mark *marks;
	const struct pb_mark *marks_end;
	void (*init_head)(void *head, uint32_t order);
	void (*init_tails)(void *tails, const void *head, uint32_t order,
			   size_t n);
	void (*encode_tails)(void *tails, const void *head, uint32_t order,
			     size_t n);
};

/* A size or an offset in the structs above: of another layout, another build. */
struct pb_layout_row {
	const char *what;
	uint64_t value;
};

size_t pb_layout(const struct pb_layout_row **ret);
/* The built-in variants, in the order in which the linker found them. */
size_t pb_variants(const struct pb_variant *const **ret);
/* The compiler, flags and commit that this core was built with. */
const char *pb_compiler(void);
const char *pb_variant_cflags(void);
const char *pb_built_commit(void);

/* memmap.c */

enum pb_backing { PB_BACKING_4K, PB_BACKING_2M };

int pb_reserve(size_t bytes, size_t alignment, uint32_t backing, void **ret);
void pb_unreserve(void *base);
void pb_memmap_populate(const struct pb_variant *variant, void *base,
			const struct pb_folio *folios, size_t n);
void pb_memmap_encode(const struct pb_variant *variant, void *base,
		      const struct pb_folio *folios, size_t n);

/* The same for n tails that stand elsewhere, as in a frame that folios share. */
void pb_memmap_tails(const struct pb_variant *variant, void *tails,
		     const void *head, uint32_t order, size_t n, int whole);

/* Frames of a memfd, mapped again and again: layouts with aliases. */
int pb_frames_create(size_t bytes, int32_t *ret);
void pb_frames_destroy(int32_t fd);
int pb_map_reserve(size_t bytes, size_t alignment, void **ret);
int pb_map_frames(void *base, int32_t fd, const uint32_t *frames,
		  const uint8_t *writable, size_t pages);
int pb_map_all(int32_t fd, size_t bytes, void **ret);
void pb_unmap(void *base, size_t bytes);

/* Stands for NULL where a lookup's result is expected. */
enum { PB_NO_PAGE = 0xffffffff };

/* How many of n lookups went wrong, and the first of them. */
struct pb_verification {
	uint64_t wrong;
	uint64_t first;
	int64_t got;
};

/* Out of every cache, as if nobody had read or written it. */
void pb_memmap_flush(const void *base, size_t bytes);
void pb_memmap_verify(pb_probe_fn *run, const void *base,
		      const uint32_t *offsets, const uint32_t *heads, size_t n,
		      struct pb_verification *ret);

/* placement.c */

int pb_code_reserve(size_t bytes, void **ret);
void pb_code_copy(void *to, const struct pb_probe *probe);
int pb_code_seal(void *code, size_t bytes);
void pb_code_unreserve(void *code, size_t bytes);

/* clock.c */

enum pb_clock_kind { PB_CLOCK_COUNTER, PB_CLOCK_GETTIME };

struct pb_clock {
	uint32_t kind;
	double ticks_per_ns;
	double granularity_ns;
	uint64_t cost_ticks;
};

int pb_clock_init(uint32_t kind, uint64_t calibrate_ns, struct pb_clock *ret);
uint32_t pb_clock_best(void);
/* CPUID: eax, ebx, ecx, edx; -ENOENT where there is no such leaf, or none. */
int pb_cpuid_read(uint32_t leaf, uint32_t subleaf, uint32_t *ret);
/* A probe of n dependent register adds: n core cycles. */
const void *pb_core_cycles(const void *base, const uint32_t *offsets, size_t n);

/* sampler.c */

/*
 * One entry of a schedule: run the warm-up untimed, then time the batch,
 * which continues at offsets + warm_up.  The last three are written back.
 */
struct pb_sample {
	pb_probe_fn *run;
	const void *base;
	const uint32_t *offsets;
	uint32_t warm_up;
	uint32_t lookups;
	uint64_t ticks;
	const void *last;
	uint64_t switches;
};

int pb_sampler_run(const struct pb_clock *clock, struct pb_sample *samples,
		   size_t n);
int pb_pin(uint32_t cpu);

/* recording.c */

/* Room for what a rewritten loop records, a word each, and a guard behind it. */
struct pb_recorder {
	uint64_t *records;
	size_t bytes;
	size_t guard_bytes;
};

int pb_recorder_init(size_t records, struct pb_recorder *ret);
void pb_recorder_deinit(struct pb_recorder *recorder);
/*
 * Runs a rewritten loop.  begin_and_end are the two words of its object that
 * say where it begins to write, and where it ended.  How many words it wrote is
 * the result; -ENOBUFS where there was no room for them.
 */
int pb_recorder_run(const struct pb_recorder *recorder,
		    uint64_t *const *begin_and_end, pb_probe_fn *run,
		    const void *base, const uint32_t *offsets, size_t n,
		    const void **last, size_t *ret);

/* counters.c */

enum pb_event {
	PB_EVENT_CYCLES,
	PB_EVENT_INSTRUCTIONS,
	PB_EVENT_BRANCH_MISSES,
	PB_EVENT_L1D_MISSES,
	PB_EVENT_LLC_MISSES,
	PB_EVENT_DTLB_MISSES,
	PB_EVENTS
};

/* A perf_event group led by cycles; fd -1 and id 0 for events refused. */
struct pb_counters {
	int32_t fd[PB_EVENTS];
	uint64_t id[PB_EVENTS];
};

/* One batch's counts; bit i of valid says whether value[i] is one. */
struct pb_counts {
	uint64_t value[PB_EVENTS];
	uint64_t enabled_ns;
	uint64_t running_ns;
	uint32_t valid;
};

int pb_counters_init(struct pb_counters *ret);
void pb_counters_deinit(struct pb_counters *counters);
int pb_counters_run(const struct pb_counters *counters,
		    struct pb_sample *sample, struct pb_counts *ret);
int pb_counters_parse(const struct pb_counters *counters,
		      const uint64_t *buffer, size_t words,
		      struct pb_counts *ret);

/* cachesim.c */

enum pb_policy { PB_POLICY_LRU, PB_POLICY_PLRU, PB_POLICY_RANDOM };
enum pb_prefetch {
	PB_PREFETCH_NONE,
	PB_PREFETCH_NEXT_LINE,
	PB_PREFETCH_STRIDE
};

/* BEST: the best that this machine has; the others: that or EOPNOTSUPP. */
enum pb_simd { PB_SIMD_NONE, PB_SIMD_BEST, PB_SIMD_AVX2, PB_SIMD_AVX512 };

enum {
	PB_CACHE_LEVELS = 3,
	PB_CACHE_WAYS = 16,
	PB_CACHE_SETS = 1 << 22,
	PB_TLB_LEVELS = 2,
	PB_TLB_ENTRIES = 1 << 20,
	PB_ACCESS_CLASSES = 8,
	PB_ACCESS_WALK = 7,
	PB_OUTCOME_ALIAS = 0x40,
};

/* Of 64-byte lines; 1 to PB_CACHE_WAYS ways, for PLRU a power of two. */
struct pb_cache {
	uint32_t sets;
	uint32_t ways;
	uint32_t policy;
	uint32_t prefetch;
};

/* LRU; sets 0: there is none, and whatever asks it misses. */
struct pb_tlb {
	uint32_t sets;
	uint32_t ways;
};

/*
 * inclusive: a line that leaves the last level leaves the others too.
 * way_predictor: a hit in the first level by another linear address than the
 * line's last one is an alias.  unified_first, unified_second: that level has
 * one TLB for both page sizes, tlb_4k, and tlb_2m has no sets.  No TLB in either
 * level, for both sizes: none is simulated.
 */
struct pb_cachesim_geometry {
	uint32_t levels;
	struct pb_cache cache[PB_CACHE_LEVELS];
	uint32_t inclusive;
	uint32_t way_predictor;
	struct pb_tlb tlb_4k[PB_TLB_LEVELS];
	struct pb_tlb tlb_2m[PB_TLB_LEVELS];
	uint32_t unified_first;
	uint32_t unified_second;
};

/*
 * Linear memory [begin, end), begin at a page: page i is frame frames[i],
 * counted in pages of its own size, 1 << page_shift: 12 or 21.  walk_line is the
 * physical line in which its first page's entry of the page table stands, at
 * the place within that line which begin gives it.
 */
struct pb_region {
	uint64_t begin;
	uint64_t end;
	uint32_t page_shift;
	uint32_t access_class;
	const uint32_t *frames;
	uint64_t walk_line;
};

/* tlb_misses of the last level are page walks. */
struct pb_cache_counts {
	uint64_t accesses[PB_ACCESS_CLASSES];
	uint64_t misses[PB_CACHE_LEVELS][PB_ACCESS_CLASSES];
	uint64_t aliases[PB_ACCESS_CLASSES];
	uint64_t tlb_misses[PB_TLB_LEVELS][PB_ACCESS_CLASSES];
	uint64_t prefetches;
};

struct pb_cachesim;

int pb_cachesim_create(const struct pb_cachesim_geometry *geometry,
		       uint32_t simd, struct pb_cachesim **ret);
void pb_cachesim_destroy(struct pb_cachesim *sim);
/* Which one it uses: NONE where the geometry is such that none is of use. */
uint32_t pb_cachesim_simd(const struct pb_cachesim *sim);

/*
 * An access: bits 0-37 the physical line, 40-47 the way predictor's hash of
 * the linear address, 48-55 the site, for the stride prefetcher, 56-58 its
 * class; the others mean nothing.  outcome, unless NULL: for each the level that
 * had it, from 0, or their number for memory; and PB_OUTCOME_ALIAS.  Adds to
 * ret.
 */
int pb_cachesim_run(struct pb_cachesim *sim, const uint64_t *accesses, size_t n,
		    uint8_t *outcome, struct pb_cache_counts *ret);

/* tlb.c */

/*
 * A record: bits 0-47 a linear address, 48-62 the site; with bit 63 set the
 * outcome of a branch, bit 0, at that site.  accesses has room for 2 * n; ret
 * is how many there are, or the record that could not be translated.
 */
int pb_cachesim_translate(struct pb_cachesim *sim,
			  const struct pb_region *regions, size_t regions_n,
			  const uint64_t *records, size_t n,
			  struct pb_cache_counts *counts, uint64_t *accesses,
			  size_t *ret);

/* predictor.c */

enum pb_predictor_kind {
	PB_PREDICTOR_BIMODAL,
	PB_PREDICTOR_GSHARE,
	PB_PREDICTOR_TAGE
};

enum { PB_BRANCH_SITES = 64 };

struct pb_predictor;

int pb_predictor_create(uint32_t kind, struct pb_predictor **ret);
void pb_predictor_destroy(struct pb_predictor *predictor);
/* Both arrays have PB_BRANCH_SITES elements, and are added to. */
int pb_predictor_run(struct pb_predictor *predictor, const uint64_t *records,
		     size_t n, uint64_t *branches, uint64_t *misses);
/* pageflags.c */

/* What the pages of a folio are, by its head's flags in /proc/kpageflags. */
enum pb_kind {
	PB_KIND_HUGETLB,
	PB_KIND_LARGE,
	PB_KIND_ANON,
	PB_KIND_FILE,
	PB_KIND_SLAB,
	PB_KIND_PGTABLE,
	PB_KIND_BUDDY,
	PB_KIND_RESERVED,
	PB_KIND_OFFLINE,
	PB_KIND_NOPAGE,
	PB_KIND_OTHER,
	PB_KINDS
};

/* Folios of one kind and order, one behind the other. */
struct pb_run {
	uint32_t kind;
	uint32_t order;
	uint64_t count;
};

/*
 * Flags, page after page, on their way to runs.  @first is the first pfn that
 * is in a run: tails before any head are left out.  @torn counts pages of
 * folios that changed while they were read.
 */
struct pb_fold {
	uint64_t first;
	uint64_t pfn;
	uint64_t torn;
	uint64_t pages;
	uint32_t kind;
	uint32_t headless;
	struct pb_run run;
};

/* Runs that n pages can end, beyond n. */
enum { PB_RUNS_SPARE = 64 };

void pb_fold_init(uint64_t pfn, struct pb_fold *ret);
size_t pb_fold_pages(struct pb_fold *fold, const uint64_t *flags, size_t n,
		     struct pb_run *runs);
size_t pb_fold_end(struct pb_fold *fold, int cut, struct pb_run *runs);

#endif

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

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * From linear addresses to what the caches see: frames, TLBs, and the loads of
 * page walks.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cachesim.h"

enum { SHIFT_4K = 12, SHIFT_2M = 21 };

#define ADDRESS_MASK  ((1ULL << PB_ADDRESS_BITS) - 1)
#define PTES_PER_LINE 8
/* Frames remembered in one call, by the page's number: a power of two. */
#define REMEMBERED 256

static int tlb_init(struct pb_tlb_level *tlb, const struct pb_tlb *geometry)
{
	const uint32_t ways = geometry->ways;
	uint32_t entries, bits = 1;

	if (!geometry->sets)
		return 0;
	if (!ways || (uint64_t)geometry->sets * ways > PB_TLB_ENTRIES)
		return -EINVAL;
	entries = geometry->sets * ways;
	while (1u << bits < 2 * entries)
		bits++;
	tlb->sets = geometry->sets;
	tlb->ways = ways;
	tlb->hash_shift = 64 - bits;
	tlb->entries = calloc(entries, sizeof(*tlb->entries));
	tlb->newest = calloc(tlb->sets, sizeof(*tlb->newest));
	tlb->chains = calloc((size_t)1 << bits, sizeof(*tlb->chains));
	if (!tlb->entries || !tlb->newest || !tlb->chains)
		return -ENOMEM;
	for (uint32_t i = 0; i < entries; i++) {
		uint32_t first = i / ways * ways, way = i - first;

		tlb->entries[i].older = first + (way + 1) % ways;
		tlb->entries[i].newer = first + (way + ways - 1) % ways;
		tlb->newest[i / ways] = first;
	}
	return 0;
}

static void tlb_deinit(struct pb_tlb_level *tlb)
{
	free(tlb->entries);
	free(tlb->newest);
	free(tlb->chains);
}

int pb_tlbs_init(struct pb_cachesim *sim,
		 const struct pb_cachesim_geometry *geometry)
{
	sim->unified[0] = geometry->unified_first;
	sim->unified[1] = geometry->unified_second;
	for (uint32_t i = 0; i < PB_TLB_LEVELS; i++) {
		int err;

		if (sim->unified[i] && geometry->tlb_2m[i].sets)
			return -EINVAL;
		err = tlb_init(&sim->tlb[i][0], &geometry->tlb_4k[i]);
		if (!err)
			err = tlb_init(&sim->tlb[i][1], &geometry->tlb_2m[i]);
		if (err)
			return err;
		sim->translates |= sim->tlb[i][0].sets | sim->tlb[i][1].sets;
	}
	return 0;
}

void pb_tlbs_deinit(struct pb_cachesim *sim)
{
	for (uint32_t i = 0; i < PB_TLB_LEVELS; i++) {
		tlb_deinit(&sim->tlb[i][0]);
		tlb_deinit(&sim->tlb[i][1]);
	}
}

/* Where the key's entry is linked, or would be: the end of its chain. */
static uint32_t *find(const struct pb_tlb_level *tlb, uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15 >> tlb->hash_shift;
	uint32_t *link = &tlb->chains[hash];

	while (*link && tlb->entries[*link - 1].key != key)
		link = &tlb->entries[*link - 1].next;
	return link;
}

static void make_newest(struct pb_tlb_level *tlb, uint32_t *newest, uint32_t at)
{
	struct pb_tlb_entry *entries = tlb->entries, *entry = &entries[at];
	uint32_t oldest = entries[*newest].newer;

	if (at == *newest)
		return;
	/* The ring begins elsewhere, and that is all if it was the oldest. */
	if (at != oldest) {
		entries[entry->newer].older = entry->older;
		entries[entry->older].newer = entry->newer;
		entry->newer = oldest;
		entry->older = *newest;
		entries[oldest].older = at;
		entries[*newest].newer = at;
	}
	*newest = at;
}

/* Whether it was there; it is from now on, as the most recently used. */
static bool lookup(struct pb_tlb_level *tlb, uint64_t page, bool is_2m)
{
	uint64_t key = (page + 1) << 1 | is_2m;
	struct pb_tlb_entry *entry;
	uint32_t *newest, *link;

	if (!tlb->sets)
		return false;
	newest = &tlb->newest[tlb->sets == 1 ? 0 : page % tlb->sets];
	link = find(tlb, key);
	if (*link) {
		make_newest(tlb, newest, *link - 1);
		return true;
	}
	*newest = tlb->entries[*newest].newer;
	entry = &tlb->entries[*newest];
	if (entry->key) {
		*find(tlb, entry->key) = entry->next;
		/* That may have been the end of this key's chain. */
		link = find(tlb, key);
	}
	entry->key = key;
	entry->next = 0;
	*link = *newest + 1;
	return false;
}

static struct pb_tlb_level *tlb_of(struct pb_cachesim *sim, uint32_t level,
				   const struct pb_region *region)
{
	bool is_2m = region->page_shift == SHIFT_2M;

	return &sim->tlb[level][is_2m && !sim->unified[level]];
}

static bool has_first(struct pb_cachesim *sim, const struct pb_region *region)
{
	return tlb_of(sim, 0, region)->sets;
}

static bool walks(struct pb_cachesim *sim, const struct pb_region *region,
		  uint64_t address, struct pb_cache_counts *counts)
{
	const uint32_t is_2m = region->page_shift == SHIFT_2M;
	const uint32_t class = region->access_class;

	for (uint32_t i = 0; i < PB_TLB_LEVELS; i++) {
		if (lookup(tlb_of(sim, i, region),
			   address >> region->page_shift, is_2m))
			return false;
		counts->tlb_misses[i][class]++;
	}
	return true;
}

static uint64_t walk_of(const struct pb_region *region, uint64_t address)
{
	uint64_t first = region->begin >> region->page_shift;
	uint64_t line = region->walk_line +
			(address >> region->page_shift) / PTES_PER_LINE -
			first / PTES_PER_LINE;

	return (line & PB_LINE_MASK) | (uint64_t)PB_ACCESS_WALK
					       << PB_CLASS_SHIFT;
}

/*
 * Of AMD's way predictor since Zen: bits 12 to 27 of the linear address, folded
 * (Lipp et al., Take A Way, ASIA CCS 2020): 12^27, 13^26, 14^25, 15^20, 16^21,
 * 17^22, 18^23, 19^24.
 */
static uint64_t way_hash(uint64_t address)
{
	uint64_t low = address >> 12 & 0xff, high = address >> 20 & 0xff;

	return low ^ ((high & 0x1f) << 3 | (high >> 5 & 1) << 2 |
		      (high >> 6 & 1) << 1 | high >> 7);
}

static int check_regions(const struct pb_region *regions, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct pb_region *region = &regions[i];

		if (region->page_shift != SHIFT_4K &&
		    region->page_shift != SHIFT_2M)
			return -EINVAL;
		if (region->begin & ((1ULL << region->page_shift) - 1) ||
		    region->begin >= region->end ||
		    region->end > ADDRESS_MASK + 1 ||
		    region->access_class >= PB_ACCESS_CLASSES)
			return -EINVAL;
		if (i && region->begin < regions[i - 1].end)
			return -EINVAL;
	}
	return 0;
}

static const struct pb_region *find_region(const struct pb_region *regions,
					   size_t n, uint64_t address)
{
	while (n) {
		size_t half = n / 2;

		if (address < regions[half].begin) {
			n = half;
		} else if (address >= regions[half].end) {
			regions += half + 1;
			n -= half + 1;
		} else {
			return &regions[half];
		}
	}
	return NULL;
}

/* A 4-KiB page that was asked for: what its accesses have in common. */
struct page {
	uint64_t number; /* plus one */
	uint64_t common;
	const struct pb_region *region;
	bool has_first; /* level of TLB */
};

static int page_of(const struct pb_region *regions, size_t n, uint64_t address,
		   struct page *ret)
{
	const struct pb_region *region = find_region(regions, n, address);
	uint64_t frame, frames, line;

	if (!region)
		return -EFAULT;
	frame = region->frames[(address - region->begin) >> region->page_shift];
	frames = (PB_LINE_MASK + 1) >> (region->page_shift - PB_LINE_SHIFT);
	if (frame >= frames)
		return -ERANGE;
	line = frame << (region->page_shift - PB_LINE_SHIFT);
	/* Which 4 KiB of 2 MiB. */
	line |= (address & ((1ULL << region->page_shift) - 1)) >>
		SHIFT_4K << (SHIFT_4K - PB_LINE_SHIFT);
	ret->number = (address >> SHIFT_4K) + 1;
	ret->common = line | way_hash(address) << PB_HASH_SHIFT |
		      (uint64_t)region->access_class << PB_CLASS_SHIFT;
	ret->region = region;
	return 0;
}

/*
 * Regions are in order of begin and do not overlap, EINVAL otherwise; EFAULT for
 * an address in none of them, ERANGE for a frame beyond the physical memory
 * that accesses can tell.  What came before such a record is translated.
 */
int pb_cachesim_translate(struct pb_cachesim *sim,
			  const struct pb_region *regions, size_t regions_n,
			  const uint64_t *records, size_t n,
			  struct pb_cache_counts *counts, uint64_t *accesses,
			  size_t *ret)
{
	struct page pages[REMEMBERED] = { 0 };
	uint64_t last = 0;
	size_t done = 0;
	int err = check_regions(regions, regions_n);

	*ret = 0;
	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		uint64_t address = records[i] & ADDRESS_MASK;
		uint64_t number = (address >> SHIFT_4K) + 1;
		struct page *page = &pages[number % REMEMBERED];

		if (records[i] & PB_BRANCH_FLAG)
			continue;
		if (page->number != number) {
			err = page_of(regions, regions_n, address, page);
			if (err) {
				*ret = i;
				return err;
			}
			page->has_first = has_first(sim, page->region);
		}
		/* The page of the last access is in front wherever it is. */
		if (sim->translates && (number != last || !page->has_first) &&
		    walks(sim, page->region, address, counts))
			accesses[done++] = walk_of(page->region, address);
		last = number;
		accesses[done++] = page->common |
				   (address >> PB_LINE_SHIFT &
				    ((1u << (SHIFT_4K - PB_LINE_SHIFT)) - 1)) |
				   (records[i] >> PB_SITE_SHIFT & 0xff)
					   << PB_SITE_SHIFT;
	}
	*ret = done;
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Predictors of branches' directions.  Bimodal: a counter for each site.
 * gshare: McFarling, Combining Branch Predictors, WRL TN-36, 1993.  TAGE: Seznec
 * and Michaud, A case for (partially) TAgged GEometric history length branch
 * prediction, JILP 8, 2006: their predictor of five components.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "cachesim.h"

#define SITE_MASK   ((1ULL << 15) - 1)

#define GSHARE_BITS 12

/* JILP 8, section 3: four tables of 1024 entries, tags of 8 bits. */
enum { TABLES = 4, INDEX_BITS = 10, TAG_BITS = 8, HISTORY = 256 };
static const uint32_t lengths[TABLES] = { 5, 15, 44, 130 };

/* Usefulness fades: a bit of each counter every so many branches. */
#define FADES_EVERY (1u << 18)

/* Counters of 2 bits from 1, barely not taken; of 3 bits from -4 to 3. */
struct entry {
	int8_t counter;
	uint8_t tag;
	uint8_t useful;
};

/* The last @length outcomes, folded into @bits by exclusive or. */
struct fold {
	uint32_t value;
	uint32_t length;
	uint32_t bits;
};

struct table {
	struct entry entries[1 << INDEX_BITS];
	struct fold index, tag, tag_again;
};

struct pb_predictor {
	uint32_t kind;
	uint8_t bimodal[PB_BRANCH_SITES];
	uint32_t shared_history;
	uint8_t shared[1 << GSHARE_BITS];
	struct table tables[TABLES];
	uint8_t history[HISTORY]; /* a ring */
	uint32_t now;
	int8_t alternate_is_better; /* than an entry that is new: -8 to 7 */
	uint32_t branches;
	uint32_t drawn;
};

/* What the tables say of a branch. */
struct vote {
	int provider; /* -1: the base */
	bool taken;
	bool alternate;
	bool is_new;
	bool said; /* the prediction */
	struct entry *entries[TABLES];
	uint8_t tags[TABLES];
};

static void fold_init(struct fold *fold, uint32_t length, uint32_t bits)
{
	fold->length = length;
	fold->bits = bits;
}

static void fold_in(struct fold *fold, uint32_t newest, uint32_t oldest)
{
	uint32_t value = fold->value << 1 | newest;

	value ^= oldest << fold->length % fold->bits;
	value ^= value >> fold->bits;
	fold->value = value & ((1u << fold->bits) - 1);
}

/* EINVAL for a kind that there is not. */
int pb_predictor_create(uint32_t kind, struct pb_predictor **ret)
{
	struct pb_predictor *predictor;

	if (kind > PB_PREDICTOR_TAGE)
		return -EINVAL;
	predictor = calloc(1, sizeof(*predictor));
	if (!predictor)
		return -ENOMEM;
	predictor->kind = kind;
	predictor->drawn = 1;
	for (uint32_t i = 0; i < PB_BRANCH_SITES; i++)
		predictor->bimodal[i] = 1;
	for (uint32_t i = 0; i < 1u << GSHARE_BITS; i++)
		predictor->shared[i] = 1;
	for (uint32_t i = 0; i < TABLES; i++) {
		struct table *table = &predictor->tables[i];

		fold_init(&table->index, lengths[i], INDEX_BITS);
		fold_init(&table->tag, lengths[i], TAG_BITS);
		fold_init(&table->tag_again, lengths[i], TAG_BITS - 1);
	}
	*ret = predictor;
	return 0;
}

void pb_predictor_destroy(struct pb_predictor *predictor)
{
	free(predictor);
}

static uint8_t nudged(uint8_t counter, bool up)
{
	if (up)
		return counter < 3 ? counter + 1 : 3;
	return counter ? counter - 1 : 0;
}

static int8_t nudged_signed(int8_t counter, bool up, int bits)
{
	int top = (1 << (bits - 1)) - 1, next = counter + (up ? 1 : -1);

	return (int8_t)(next > top ? top : next < ~top ? ~top : next);
}

/* Each of these returns what was predicted, and learns what came. */
static bool run_counter(uint8_t *counter, bool taken)
{
	bool said = *counter >= 2;

	*counter = nudged(*counter, taken);
	return said;
}

static bool run_gshare(struct pb_predictor *predictor, uint32_t site,
		       bool taken)
{
	const uint32_t mask = (1u << GSHARE_BITS) - 1;
	uint32_t history = predictor->shared_history;

	predictor->shared_history = (history << 1 | taken) & mask;
	return run_counter(&predictor->shared[(history ^ site) & mask], taken);
}

static void ask(struct pb_predictor *predictor, uint32_t site,
		struct vote *vote)
{
	int alternate = -1;
	struct entry *entry;

	vote->provider = -1;
	for (int i = 0; i < TABLES; i++) {
		struct table *table = &predictor->tables[i];
		uint32_t at = site ^ site << (i + 1) ^ table->index.value;

		vote->tags[i] = (uint8_t)(site ^ table->tag.value ^
					  table->tag_again.value << 1);
		vote->entries[i] =
			&table->entries[at & ((1u << INDEX_BITS) - 1)];
		/* A tag of 0 is one as well: an entry that nobody made is weak. */
		if (vote->entries[i]->tag != vote->tags[i])
			continue;
		alternate = vote->provider;
		vote->provider = i;
	}
	vote->alternate = alternate >= 0
				  ? vote->entries[alternate]->counter >= 0
				  : predictor->bimodal[site] >= 2;
	vote->taken = vote->said = vote->alternate;
	vote->is_new = false;
	if (vote->provider < 0)
		return;
	entry = vote->entries[vote->provider];
	vote->taken = entry->counter >= 0;
	vote->is_new = !entry->useful &&
		       (entry->counter == 0 || entry->counter == -1);
	if (!vote->is_new || predictor->alternate_is_better < 0)
		vote->said = vote->taken;
}

static uint32_t draw(struct pb_predictor *predictor)
{
	uint32_t drawn = predictor->drawn;

	drawn ^= drawn << 13;
	drawn ^= drawn >> 17;
	drawn ^= drawn << 5;
	return predictor->drawn = drawn;
}

/*
 * An entry with a longer history than the provider's, of those that are of no
 * use; the shorter of two with twice the longer's probability.
 */
static void allocate(struct pb_predictor *predictor, const struct vote *vote,
		     bool taken)
{
	int chosen = -1;

	for (int i = vote->provider + 1; i < TABLES; i++) {
		if (vote->entries[i]->useful)
			continue;
		chosen = i;
		if (draw(predictor) % 3)
			break;
	}
	if (chosen >= 0) {
		*vote->entries[chosen] = (struct entry){
			.counter = taken ? 0 : -1,
			.tag = vote->tags[chosen],
		};
		return;
	}
	for (int i = vote->provider + 1; i < TABLES; i++)
		vote->entries[i]->useful--;
}

/* The upper and the lower bit by turns. */
static void fade(struct pb_predictor *predictor)
{
	uint8_t keeps;

	if (++predictor->branches % FADES_EVERY)
		return;
	keeps = predictor->branches / FADES_EVERY % 2 ? 1 : 2;
	for (uint32_t i = 0; i < TABLES; i++)
		for (uint32_t j = 0; j < 1u << INDEX_BITS; j++)
			predictor->tables[i].entries[j].useful &= keeps;
}

static void remember(struct pb_predictor *predictor, bool taken)
{
	uint32_t now = ++predictor->now % HISTORY;

	predictor->history[now] = taken;
	for (uint32_t i = 0; i < TABLES; i++) {
		struct table *table = &predictor->tables[i];
		uint32_t oldest =
			predictor->history[(now - lengths[i]) % HISTORY];

		fold_in(&table->index, taken, oldest);
		fold_in(&table->tag, taken, oldest);
		fold_in(&table->tag_again, taken, oldest);
	}
}

static bool run_tage(struct pb_predictor *predictor, uint32_t site, bool taken)
{
	struct vote vote;

	ask(predictor, site, &vote);
	if (vote.is_new && vote.taken != vote.alternate)
		predictor->alternate_is_better =
			nudged_signed(predictor->alternate_is_better,
				      vote.alternate == taken, 4);
	/* A new entry that was right needs no longer one, whatever was said. */
	if (vote.said != taken && !(vote.is_new && vote.taken == taken))
		allocate(predictor, &vote, taken);
	if (vote.provider >= 0) {
		struct entry *entry = vote.entries[vote.provider];

		entry->counter = nudged_signed(entry->counter, taken, 3);
		if (vote.taken != vote.alternate)
			entry->useful =
				nudged(entry->useful, vote.taken == taken);
	} else {
		run_counter(&predictor->bimodal[site], taken);
	}
	fade(predictor);
	remember(predictor, taken);
	return vote.said;
}

/*
 * Records are those of pb_cachesim_translate(); accesses are skipped.  ERANGE
 * for a site that the arrays do not have; what came before it is done.
 */
int pb_predictor_run(struct pb_predictor *predictor, const uint64_t *records,
		     size_t n, uint64_t *branches, uint64_t *misses)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t site = records[i] >> PB_SITE_SHIFT & SITE_MASK;
		bool taken = records[i] & 1, said;

		if (!(records[i] & PB_BRANCH_FLAG))
			continue;
		if (site >= PB_BRANCH_SITES)
			return -ERANGE;
		switch (predictor->kind) {
		case PB_PREDICTOR_GSHARE:
			said = run_gshare(predictor, site, taken);
			break;
		case PB_PREDICTOR_TAGE:
			said = run_tage(predictor, site, taken);
			break;
		default:
			said = run_counter(&predictor->bimodal[site], taken);
		}
		branches[site]++;
		misses[site] += said != taken;
	}
	return 0;
}

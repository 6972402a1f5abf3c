/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * branchless of instructions that take a cycle each on every core, for the
 * harness' own checks.  Recent Intel cores do most adds of an immediate at
 * rename, in no time, and some not: branchless itself, which subtracts 1, takes
 * 10.05 cycles on Emerald Rapids, and with an add behind it 11.00.
 */
#ifndef PAGEBENCH_WHOLE_CYCLES_H
#define PAGEBENCH_WHOLE_CYCLES_H

#include "arch.h"
#include "page.h"

static __always_inline unsigned long
compound_head_in_whole_cycles(const struct page *page)
{
	unsigned long info = READ_ONCE(page->compound_info);
	unsigned long negated = -(info & 1);

	if (!compound_info_has_mask())
		return info & 1 ? info - 1 : (unsigned long)page;
	OPTIMIZER_HIDE_VAR(negated);
	/* All ones, or zero, as branchless has it by (info & 1) - 1. */
	return (unsigned long)page & (~negated | info);
}

/* One more cycle. */
static __always_inline unsigned long a_cycle_later(unsigned long head)
{
	unsigned long zero = 0;

	OPTIMIZER_HIDE_VAR(zero);
	PB_ASM_ADD(PB_ADD, head, zero);
	return head;
}

#endif

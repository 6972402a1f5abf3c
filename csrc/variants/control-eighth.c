// SPDX-License-Identifier: GPL-2.0-only
#include "../whole_cycles.h"

#define PB_ID	    control_eighth
#define PB_NAME	    "control-eighth"
#define PB_COMMIT   ""
#define PB_SUBJECT  "positive control: the add in one page of eight"
#define PB_VERSION  ""
#define PB_ENCODING mask
#define PB_FORM	    (PB_HAS_MASK ? "arith" : "")

/*
 * An eighth of a core cycle more than control-reference, over struct pages of 64
 * bytes and page after page: the branch is then foreseen.
 */
static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long head = compound_head_in_whole_cycles(page);

	if (!((unsigned long)page & 7 * 64))
		head = a_cycle_later(head);
	return (const struct page *)head;
}

#include "../variant.h"

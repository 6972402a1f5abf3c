// SPDX-License-Identifier: GPL-2.0-only
#include "../arch.h"
#include "../page.h"

#define PB_ID	    control
#define PB_NAME	    "control"
#define PB_COMMIT   ""
#define PB_SUBJECT  "positive control: branchless and one dependent add"
#define PB_VERSION  ""
#define PB_ENCODING mask
#define PB_FORM	    (PB_HAS_MASK ? "arith" : "")

/* One core cycle more than branchless, by construction. */
static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long info = READ_ONCE(page->compound_info);
	unsigned long mask, head, zero = 0;

	if (compound_info_has_mask()) {
		mask = (info & 1) - 1;
		mask |= info;
		head = (unsigned long)page & mask;
	} else {
		head = info & 1 ? info - 1 : (unsigned long)page;
	}
	OPTIMIZER_HIDE_VAR(zero);
	PB_ASM_ADD(PB_ADD, head, zero);
	return (const struct page *)head;
}

#include "../variant.h"

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	    branchless
#define PB_NAME	    "branchless"
#define PB_COMMIT   "66b2a3d9ae46"
#define PB_SUBJECT  "mm: remove the branch from compound_head()"
#define PB_VERSION  "v7.1 and later"
#define PB_ENCODING mask
#define PB_FORM	    (PB_HAS_MASK ? "arith" : "")

static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long info = READ_ONCE(page->compound_info);
	unsigned long mask;

	if (!compound_info_has_mask()) {
		if (info & 1)
			return (const struct page *)(info - 1);
		return page;
	}
	/* Non-tail: all ones.  Tail: zero, then the mask with its bit 0. */
	mask = (info & 1) - 1;
	mask |= info;
	return (const struct page *)((unsigned long)page & mask);
}

#include "../variant.h"

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	    pointer_branch
#define PB_NAME	    "pointer-branch"
#define PB_COMMIT   "1d798ca3f164"
#define PB_SUBJECT  "mm: make compound_head() robust"
#define PB_VERSION  "v4.4 ... v7.0"
#define PB_ENCODING pointer
#define PB_FORM	    "branch"

/* With the static key compiled in and off, v5.17 ... v7.0 run a branch. */
static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long head = READ_ONCE(page->compound_head);

	if (unlikely(head & 1)) {
		OPTIMIZER_HIDE_VAR(head);
		return (const struct page *)(head - 1);
	}
	return page;
}

#include "../variant.h"

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	    pointer
#define PB_NAME	    "pointer"
#define PB_COMMIT   "1d798ca3f164"
#define PB_SUBJECT  "mm: make compound_head() robust"
#define PB_VERSION  "v4.4 ... v7.0"
#define PB_ENCODING pointer
#define PB_FORM	    ""

static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long head = READ_ONCE(page->compound_head);

	if (unlikely(head & 1))
		return (const struct page *)(head - 1);
	return page;
}

#include "../variant.h"

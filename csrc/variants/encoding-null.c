// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	    encoding_null
#define PB_NAME	    "encoding-null"
#define PB_COMMIT   ""
#define PB_SUBJECT  "null between encodings: mask-select, over other tail words"
#define PB_VERSION  ""
#define PB_ENCODING null
#define PB_FORM	    "select"

/* The code of mask-select, to the byte. */
static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long info = READ_ONCE(page->compound_info);
	unsigned long head = (unsigned long)page & info;

	if (!compound_info_has_mask())
		head = info - 1;
	if (UNPREDICTABLE(info & 1))
		return (const struct page *)head;
	return page;
}

#include "../variant.h"

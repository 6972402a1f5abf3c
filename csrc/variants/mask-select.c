// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	  mask_select
#define PB_NAME	  "mask-select"
#define PB_COMMIT "8c846c879e22"
#define PB_SUBJECT \
	"mm: rework compound_head() for power-of-2 sizeof(struct page)"
#define PB_VERSION  "v7.1"
#define PB_ENCODING mask
#define PB_FORM	    "select"

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

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	  mask
#define PB_NAME	  "mask"
#define PB_COMMIT "8c846c879e22"
#define PB_SUBJECT \
	"mm: rework compound_head() for power-of-2 sizeof(struct page)"
#define PB_VERSION  "v7.1"
#define PB_ENCODING mask
#define PB_FORM	    ""

static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long info = READ_ONCE(page->compound_info);

	if (!(info & 1))
		return page;
	if (!compound_info_has_mask())
		return (const struct page *)(info - 1);
	return (const struct page *)((unsigned long)page & info);
}

#include "../variant.h"

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	  fakehead_select
#define PB_NAME	  "fakehead-select"
#define PB_COMMIT "e7d324850bfc"
#define PB_SUBJECT \
	"mm: hugetlb: free the 2nd vmemmap page associated with each HugeTLB page"
#define PB_VERSION  "v5.17 ... v7.0, hugetlb_optimize_vmemmap_key on"
#define PB_ENCODING pointer
#define PB_FORM	    "select"

static __always_inline const struct page *compound_head(const struct page *page)
{
	unsigned long head = READ_ONCE(page->compound_head);

	const struct page *fixed = page_fixed_fake_head(page);

	OPTIMIZER_HIDE_VAR(fixed);
	if (UNPREDICTABLE(head & 1))
		return (const struct page *)(head - 1);
	return fixed;
}

/* page_count_writable(): the address comes from page_fixed_fake_head(). */
#define PB_PAGE_IS_FAKE_HEAD(page) (page_fixed_fake_head(page) != (page))

#include "../variant.h"

// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	   identity
#define PB_NAME	   "identity"
#define PB_COMMIT  ""
#define PB_SUBJECT "the harness alone: reads nothing"
#define PB_VERSION ""

static __always_inline const struct page *compound_head(const struct page *page)
{
	return page;
}

static __always_inline void set_compound_head(struct page *tail,
					      const struct page *head,
					      unsigned int order)
{
	(void)order;
	set_compound_pointer(tail, head);
}

#include "../variant.h"

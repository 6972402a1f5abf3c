// SPDX-License-Identifier: GPL-2.0-only
#include "../page.h"

#define PB_ID	    identity
#define PB_NAME	    "identity"
#define PB_COMMIT   ""
#define PB_SUBJECT  "the harness alone: reads nothing"
#define PB_VERSION  ""
#define PB_ENCODING pointer
#define PB_FORM	    "none"

static __always_inline const struct page *compound_head(const struct page *page)
{
	return page;
}

#include "../variant.h"

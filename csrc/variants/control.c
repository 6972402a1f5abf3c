// SPDX-License-Identifier: GPL-2.0-only
#include "../whole_cycles.h"

#define PB_ID	    control
#define PB_NAME	    "control"
#define PB_COMMIT   ""
#define PB_SUBJECT  "positive control: one dependent add more"
#define PB_VERSION  ""
#define PB_ENCODING mask
#define PB_FORM	    (PB_HAS_MASK ? "arith" : "")

/* One core cycle more than control-reference, by construction. */
static __always_inline const struct page *compound_head(const struct page *page)
{
	return (const struct page *)a_cycle_later(
		compound_head_in_whole_cycles(page));
}

#include "../variant.h"

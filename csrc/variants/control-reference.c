// SPDX-License-Identifier: GPL-2.0-only
#include "../whole_cycles.h"

#define PB_ID	    control_reference
#define PB_NAME	    "control-reference"
#define PB_COMMIT   ""
#define PB_SUBJECT  "branchless in whole cycles, for controls"
#define PB_VERSION  ""
#define PB_ENCODING mask
#define PB_FORM	    (PB_HAS_MASK ? "arith" : "")

static __always_inline const struct page *compound_head(const struct page *page)
{
	return (const struct page *)compound_head_in_whole_cycles(page);
}

#include "../variant.h"

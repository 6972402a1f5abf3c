// SPDX-License-Identifier: GPL-2.0-only
/*
 * The compound_head() and set_compound_head() of a kernel tree, inlined from
 * its own <linux/mm.h> and compiled with its flags: never part of the
 * extension, see pagebench/variants/kernel.  What differs between trees comes
 * as PB_TREE_*, found by trying to compile it.
 */
#include <linux/mm.h>
#include <generated/utsrelease.h>

/* In the registry that this is linked with, long enough for "+key". */
extern const char pb_tree_name[] __attribute__((visibility("hidden")));

#define PB_ID	   kernel_tree
#define PB_NAME	   pb_tree_name
#define PB_COMMIT  ""
#define PB_SUBJECT "compound_head() of the tree"
#define PB_VERSION UTS_RELEASE

/* Up to v7.0: the head's address is all that a tail holds. */
#ifdef PB_TREE_SET_TWO
#define pb_set_compound_head(tail, head, order) \
	((void)(order), set_compound_head(tail, head))
#endif

#if defined(PB_TREE_IS_FAKE)
#define PB_PAGE_IS_FAKE_HEAD(page) page_is_fake_head(page)
#elif defined(PB_TREE_FIXED)
#define PB_PAGE_IS_FAKE_HEAD(page) (page_fixed_fake_head(page) != (page))
#endif

#include "variant.h"

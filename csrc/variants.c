// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registry of variants, and what they were built with: of the core, and of
 * every shared object.  The core is one, too, where its variants are to be
 * looked up with by another build.
 */
#include "pagebench.h"

#include <stddef.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN extern const struct pb_variant *const __start_pb_registry[];
HIDDEN extern const struct pb_variant *const __stop_pb_registry[];

#define SIZE(type) { "sizeof(" #type ")", sizeof(type) }
#define FIELD(type, name) \
	{ "offsetof(" #type ", " #name ")", offsetof(type, name) }

static const struct pb_layout_row layout[] = {
	SIZE(struct pb_variant),
	FIELD(struct pb_variant, name),
	FIELD(struct pb_variant, commit),
	FIELD(struct pb_variant, subject),
	FIELD(struct pb_variant, version),
	FIELD(struct pb_variant, encoding),
	FIELD(struct pb_variant, form),
	FIELD(struct pb_variant, fixes_fake_heads),
	FIELD(struct pb_variant, struct_page_bytes),
	FIELD(struct pb_variant, mapcount_at),
	FIELD(struct pb_variant, refcount_at),
	FIELD(struct pb_variant, probe_count),
	FIELD(struct pb_variant, probes),
	FIELD(struct pb_variant, marks),
	FIELD(struct pb_variant, marks_end),
	FIELD(struct pb_variant, init_head),
	FIELD(struct pb_variant, init_tails),
	FIELD(struct pb_variant, encode_tails),
	SIZE(struct pb_probe),
	FIELD(struct pb_probe, name),
	FIELD(struct pb_probe, run),
	FIELD(struct pb_probe, start),
	FIELD(struct pb_probe, end),
	FIELD(struct pb_probe, lookups),
	FIELD(struct pb_probe, returns),
	FIELD(struct pb_probe, uses_head),
	FIELD(struct pb_probe, writes_counts),
	FIELD(struct pb_probe, writes_tails),
	FIELD(struct pb_probe, adds_refs),
	FIELD(struct pb_probe, adds_maps),
	SIZE(struct pb_mark),
	FIELD(struct pb_mark, where),
	FIELD(struct pb_mark, kind),
};

#pragma GCC visibility push(default)

size_t pb_layout(const struct pb_layout_row **ret)
{
	*ret = layout;
	return sizeof(layout) / sizeof(layout[0]);
}

size_t pb_variants(const struct pb_variant *const **ret)
{
	*ret = __start_pb_registry;
	return (size_t)(__stop_pb_registry - __start_pb_registry);
}

const char *pb_compiler(void)
{
#ifdef __clang__
	return __VERSION__;
#else
	return "gcc " __VERSION__;
#endif
}

const char *pb_variant_cflags(void)
{
	return PB_CFLAGS;
}

#pragma GCC visibility pop

const char *pb_built_commit(void)
{
	return PB_BUILT_COMMIT;
}

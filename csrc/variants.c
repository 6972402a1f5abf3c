// SPDX-License-Identifier: GPL-2.0-only
/* The registry of built-in variants, and what they were built with. */
#include "pagebench.h"

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN extern const struct pb_variant *const __start_pb_registry[];
HIDDEN extern const struct pb_variant *const __stop_pb_registry[];

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

const char *pb_built_commit(void)
{
	return PB_BUILT_COMMIT;
}

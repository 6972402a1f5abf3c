"""Link what was compiled against a kernel tree into a shared object, with exactly the stubs that it needs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pagebench import core
from pagebench.variants import cache, compiled, compiler
from pagebench.variants.kernel import compilation
from pagebench.variants.kernel.jump_table import Image

# The static key of HVO up to v7.0, by its names since v5.19 and before.
KEYS = ("hugetlb_optimize_vmemmap_key", "hugetlb_free_vmemmap_enabled_key")

# What there are stubs for: functions that only return, and the key.
STUBS = {
    r"__fentry__|__x86_return_thunk": '__asm__(".globl {0}\\n.hidden {0}\\n{0}: ret\\n");\n',
    "|".join(KEYS): '__attribute__((visibility("hidden"), aligned(16))) unsigned long {0}[8];\n',
}
# What the linker and the registry define.
DEFINED = r"(__start_|__stop_)\w+|pb_tree_name|_GLOBAL_OFFSET_TABLE_"
# Which option of the kernel brings a symbol.
BROUGHT_BY = {
    r"__(kasan|asan|hwasan)_\w+": "CONFIG_KASAN",
    r"__sanitizer_cov_\w+": "CONFIG_KCOV",
    r"__(tsan|kcsan)_\w+": "CONFIG_KCSAN",
    r"__(msan|kmsan)_\w+": "CONFIG_KMSAN",
    r"__ubsan_handle_\w+": "CONFIG_UBSAN",
    r"__gcov_\w+|llvm_gcda_\w+": "CONFIG_GCOV_KERNEL",
    r"__stack_chk_\w+": "CONFIG_STACKPROTECTOR",
    r"page_init_poison|\w*page_poison\w*": "CONFIG_DEBUG_VM or CONFIG_PAGE_POISONING",
    r"dump_page|__dump_page|__warn_printk": "CONFIG_DEBUG_VM_PGFLAGS or CONFIG_DEBUG_VM",
    r"lock_(acquire|release)|\w*lockdep\w*|rcu_lock_map": "CONFIG_PROVE_LOCKING",
    r"__rcu_read_(un)?lock": "CONFIG_PREEMPT_RCU",
    r"__tracepoint_\w+|__traceiter_\w+|__page_ref_\w+": "CONFIG_DEBUG_PAGE_REF",
    r"__SC[TK]__\w+": "CONFIG_PREEMPT_DYNAMIC",
    r"_?mcount": "CONFIG_FUNCTION_TRACER",
}

# The name leaves room for a suffix.
NAMED = """
__attribute__((visibility("hidden"), used)) const char pb_tree_name[64] = {name};
__attribute__((visibility("hidden"), used)) const char pb_tree_record[] = {record};
"""


def link(
    name: str,
    how: compilation.Compilation,
    object_file: Path,
    cc: Sequence[str],
    scratch: Path,
    log: compilation.Log,
) -> None:
    """Make compiled.OBJECT in ``scratch`` of a kernel's object, a registry and stubs.

    Raises CompilerError that names the symbols that there is no stub for, and where the linker fails.
    """
    stubs = _stubs(Image.of(object_file).undefined())
    registry, exports = scratch / "registry.c", scratch / "exports.map"
    literal = compiled.literal
    abi = core.abi()
    record = json.dumps({"how": how.how, "why": how.why})
    registry.write_text(
        compiled.REGISTRY.format(cflags=literal(how.cflags))
        + "".join(compiled.ASSERTION.format(*row) for row in abi)
        + NAMED.format(name=literal(name), record=literal(record))
        + stubs
    )
    exports.write_text(compiled.EXPORTS)
    # Code for -mcmodel=kernel has no relocation for the loader in it, but its
    # tables of pointers stand among constants.
    options = ["-shared", "-nostdlib", "-Xlinker", f"--version-script={exports}"]
    for word in ("-z", "notext", "-z", "defs", "-z", "noexecstack", "--strip-debug", "--build-id=none"):
        options += ["-Xlinker", word]
    flags = ["-O2", "-std=gnu11", "-fPIC", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"]
    argv = [*cc, *flags, *options, "-I", str(compiler.sources()), "-o", str(scratch / cache.OBJECT)]
    done = log.run([*argv, str(registry), str(object_file)], scratch)
    if done.returncode:
        lines = [
            line for line in done.stderr.splitlines() if re.search(r"relocation|undefined|multiple", line)
        ]
        error = lines[0] if lines else compiler.first_error(done.stderr)
        raise compiler.CompilerError(f"cannot link the tree's code: {error}")


def _stubs(undefined: Sequence[str]) -> str:
    """C for exactly these symbols.  Raises CompilerError for those that have no stub."""
    text, unknown = "", []
    for symbol in undefined:
        stub = next((code for names, code in STUBS.items() if re.fullmatch(names, symbol)), "")
        text += stub.format(symbol)
        if not stub and not re.fullmatch(DEFINED, symbol):
            option = next((o for names, o in BROUGHT_BY.items() if re.fullmatch(names, symbol)), "")
            unknown.append(f"{symbol} ({option or 'which option brings it is not known'})")
    if unknown:
        raise compiler.CompilerError(
            f"the tree's compound_head() wants what only a running kernel has: {', '.join(unknown)}; "
            "configure the tree without it"
        )
    return text

"""The flags that a kernel is compiled with, as far as they change code, for where its kbuild does not run."""

from __future__ import annotations

from pagebench.architecture import ARCHITECTURES

# Beside the tree's own: return thunks are kept out, and what UBSAN checks is
# checked as with CONFIG_UBSAN_TRAP, since nobody could report it here.
OPTIONAL = ("-mfunction-return=keep", "-fsanitize-undefined-trap-on-error")
OURS = ("-std=gnu11", "-Wno-error", "-Werror=implicit-function-declaration", "-g0")

# By the directory under arch/.  Those that this compiler does not know are left out, as cc-option does.
DIRECT = {one.directory: one.kernel_cflags for one in ARCHITECTURES.values() if one.kernel_cflags}
# And what options of the tree's configuration add to that.
CONFIGURED = {
    "CC_OPTIMIZE_FOR_PERFORMANCE": "-O2",
    "CC_OPTIMIZE_FOR_PERFORMANCE_O3": "-O3",
    "CC_OPTIMIZE_FOR_SIZE": "-Os",
    "X86_NATIVE_CPU": "-march=native",
    "MK8": "-march=k8",
    "MCORE2": "-march=core2",
    "MATOM": "-march=atom",
    "FRAME_POINTER": "-fno-omit-frame-pointer -fno-optimize-sibling-calls",
    "X86_KERNEL_IBT": "-fcf-protection=branch",
    "SLS": "-mharden-sls=all",
    "MITIGATION_SLS": "-mharden-sls=all",
    "INIT_STACK_ALL_ZERO": "-ftrivial-auto-var-init=zero",
    "INIT_STACK_ALL_PATTERN": "-ftrivial-auto-var-init=pattern",
    "ZERO_CALL_USED_REGS": "-fzero-call-used-regs=used-gpr",
    "UBSAN_BOUNDS_STRICT": "-fsanitize=bounds-strict",
    "UBSAN_ARRAY_BOUNDS": "-fsanitize=array-bounds",
    "UBSAN_SHIFT": "-fsanitize=shift",
    "KASAN_GENERIC": "-fsanitize=kernel-address",
    "KCSAN": "-fsanitize=thread",
    "KMSAN": "-fsanitize=kernel-memory",
    "KCOV_INSTRUMENT_ALL": "-fsanitize-coverage=trace-pc",
}


def flags(arch: str, config: frozenset[str]) -> list[str]:
    """The flags for the directory under arch/ and the options that are =y; no compiler knows them all."""
    words = [*OURS, *OPTIONAL, *DIRECT[arch].split()]
    for option, adds in CONFIGURED.items():
        words += adds.split() if option in config else []
    return words if any(flag.startswith("-march=") for flag in words) else [*words, "-mtune=generic"]

"""The clock, and timed batches in the order of a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.core.extension import address, array, check, ffi, lib

# struct pb_sample
SAMPLE_DTYPE = np.dtype(
    [
        ("run", np.uint64),
        ("base", np.uint64),
        ("offsets", np.uint64),
        ("warm_up", np.uint32),
        ("lookups", np.uint32),
        ("ticks", np.uint64),
        ("last", np.uint64),
        ("switches", np.uint64),
    ]
)
assert SAMPLE_DTYPE.itemsize == ffi.sizeof("struct pb_sample")


class Clock:
    """The machine's cheapest trustworthy clock, calibrated by spinning.

    ``kind`` is "counter" (the TSC, where invariant, or CNTVCT) or "gettime"
    (CLOCK_MONOTONIC_RAW); the best there is by default.
    """

    KINDS = ("counter", "gettime")

    def __init__(self, calibrate_ns: int = 100_000_000, kind: str | None = None) -> None:
        self.cdata = ffi.new("struct pb_clock *")
        number = lib.pb_clock_best() if kind is None else self.KINDS.index(kind)
        check(lib.pb_clock_init(number, calibrate_ns, self.cdata), "calibrating the clock")
        self.kind = self.KINDS[number]
        self.ticks_per_ns: float = self.cdata.ticks_per_ns
        self.granularity_ns: float = self.cdata.granularity_ns
        self.cost_ns: float = self.cdata.cost_ticks / self.ticks_per_ns


# The address of a probe that takes one core cycle per "lookup".
ADD_CHAIN: int = address(ffi.addressof(lib, "pb_core_cycles"))


def run_samples(clock: Clock, samples: npt.NDArray[Any]) -> None:
    """Run a schedule (SAMPLE_DTYPE) and write ticks, last results and context switches into it.

    Every address in it has to be alive.  Raises OSError for a batch of no lookups.
    """
    check(
        lib.pb_sampler_run(clock.cdata, array("struct pb_sample[]", samples), len(samples)),
        "a batch without lookups",
    )


def pin(cpu: int) -> None:
    """Keep this thread on one CPU.  Raises OSError where that is not allowed."""
    check(lib.pb_pin(cpu), f"pinning to CPU {cpu}")


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int] | None:
    """EAX, EBX, ECX and EDX of CPUID; None where this CPU has no such leaf, or is no x86."""
    ret = ffi.new("uint32_t[4]")
    if lib.pb_cpuid_read(leaf, subleaf, ret):
        return None
    eax, ebx, ecx, edx = (int(register) for register in ret)
    return eax, ebx, ecx, edx

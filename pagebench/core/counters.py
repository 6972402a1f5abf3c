"""The PMU's counts around a batch: a perf_event group, where there is one."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from pagebench.core.closing import Closing
from pagebench.core.extension import array, check, ffi, lib
from pagebench.core.sampler import SAMPLE_DTYPE

# enum pb_event
EVENTS = ("cycles", "instructions", "branch_misses", "l1d_misses", "llc_misses", "dtlb_misses")
assert len(EVENTS) == lib.PB_EVENTS

_NO_PMU = "no PMU: this machine gives no hardware counts; cycles come from the add chain"
_NOT_ALLOWED = (
    "hardware counters are not allowed here: set the sysctl kernel.perf_event_paranoid to 2 or less, "
    "and let a container's seccomp profile pass perf_event_open"
)
_REFUSED = {
    errno.ENOENT: _NO_PMU,
    errno.ENODEV: _NO_PMU,
    errno.EOPNOTSUPP: _NO_PMU,
    errno.ENOSYS: "no hardware counts: this kernel was built without perf events",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EBUSY: "the cycle counter is taken: end other users of perf, or sysctl kernel.nmi_watchdog=0",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one batch counted, by event; empty where the group never ran.

    ``values`` are scaled up where the group ran for ``running_ns`` of ``enabled_ns`` only.
    """

    values: Mapping[str, int]
    enabled_ns: int
    running_ns: int

    @classmethod
    def of(cls, cdata: Any) -> Counts:
        """The counts of a ``struct pb_counts``."""
        values = {name: int(cdata.value[i]) for i, name in enumerate(EVENTS) if cdata.valid >> i & 1}
        return cls(values, cdata.enabled_ns, cdata.running_ns)


class Counters(Closing):
    """The PMU's counts of this thread's user code, batch by batch; a context manager.

    ``events`` are the names that this PMU counts, ``refused`` those of ``EVENTS`` that it does not.  Raises
    OSError, with a sentence as its ``strerror``, where there is no PMU or it may not be used.
    """

    def __init__(self) -> None:
        self._cdata: Any = ffi.new("struct pb_counters *")
        result = lib.pb_counters_init(self._cdata)
        if result:
            self._cdata = None
            why = _REFUSED.get(-result, f"opening hardware counters: {os.strerror(-result)}")
            raise OSError(-result, why)
        self.events = tuple(name for i, name in enumerate(EVENTS) if self._cdata.fd[i] >= 0)
        self.refused = tuple(name for name in EVENTS if name not in self.events)

    def run(self, row: npt.NDArray[Any]) -> dict[str, float]:
        """Run one sample (``samples[i : i + 1]``, SAMPLE_DTYPE) and return its counts per lookup.

        Empty where other users kept the group off the PMU.  The warm-up is not counted; the ends of the two
        system calls around the batch are, some tens of instructions.  ``last`` is written, times are not.
        Raises OSError (EINVAL) for a batch of no lookups.
        """
        if row.dtype != SAMPLE_DTYPE or row.shape != (1,):
            raise ValueError("one row of a schedule is wanted: samples[i : i + 1]")
        ret = ffi.new("struct pb_counts *")
        sample = array("struct pb_sample[]", row)
        check(lib.pb_counters_run(self._cdata, sample, ret), "counting a batch")
        lookups = int(row["lookups"][0])
        return {name: value / lookups for name, value in Counts.of(ret).values.items()}

    def close(self) -> None:
        """Give the counters back.  A second call does nothing."""
        if self._cdata is not None:
            lib.pb_counters_deinit(self._cdata)
            self._cdata = None

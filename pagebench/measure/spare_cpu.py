"""Another CPU, for what is not timed: while memmaps are written and verified, nothing is."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pagebench.core import Closing

T = TypeVar("T")

# Of less than so many bytes or pages it takes longer to wake a thread.
WORTH_SHARING = 1 << 17


class SpareCpu(Closing):
    """Takes half of the work of the CPU that measures, where there is another one; a context manager.

    ``others``: the CPUs that a thread may run on beside the caller's; with none, the caller does it all.
    """

    def __init__(self, others: set[int] | None = None) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if others:
            self._pool = ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, others))

    def share(self, work: Callable[[slice], T], count: int) -> list[T]:
        """What ``work`` returns for the parts of ``count`` things, in their order; it must let go of the GIL.

        Returns when all is done, so that nothing runs beside what is timed.
        """
        if self._pool is None or count < WORTH_SHARING:
            return [work(slice(0, count))]
        half = count // 2
        first = self._pool.submit(work, slice(0, half))
        second = work(slice(half, count))
        return [first.result(), second]

    def close(self) -> None:
        """End the thread.  A second call does nothing."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

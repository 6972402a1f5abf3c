"""Work on two CPUs comes to what one CPU makes of it."""

from __future__ import annotations

import os
import threading

import pytest

from pagebench.measure.spare_cpu import WORTH_SHARING, SpareCpu

COUNT = WORTH_SHARING + 1


def parts_of(spare: SpareCpu, count: int) -> tuple[list[int], list[int]]:
    """The numbers that the parts cover, in their order; the threads that worked."""
    threads: list[int] = []

    def work(part: slice) -> range:
        threads.append(threading.get_ident())
        return range(part.start, part.stop)

    return [number for part in spare.share(work, count) for number in part], threads


@pytest.mark.parametrize("count, sharers", [(COUNT, 2), (WORTH_SHARING - 1, 1), (0, 1)])
def test_parts_are_all_of_it_in_order(count: int, sharers: int) -> None:
    with SpareCpu(os.sched_getaffinity(0)) as spare:
        numbers, threads = parts_of(spare, count)
    assert numbers == list(range(count))
    assert len(set(threads)) == sharers and threading.get_ident() in threads


def test_one_cpu_does_it_alone() -> None:
    with SpareCpu(set()) as spare:
        assert parts_of(spare, COUNT) == (list(range(COUNT)), [threading.get_ident()])


def test_the_thread_stays_on_the_other_cpus() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    with SpareCpu({allowed[-1]}) as spare:
        mine = threading.get_ident()
        where = spare.share(lambda _: (threading.get_ident(), os.sched_getaffinity(0)), COUNT)
    assert {cpus == {allowed[-1]} for thread, cpus in map(tuple, where) if thread != mine} == {True}
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_what_a_part_raises_is_raised() -> None:
    def work(part: slice) -> None:
        if part.start == 0:
            raise OSError("first half")

    with SpareCpu(os.sched_getaffinity(0)) as spare, pytest.raises(OSError, match="first half"):
        spare.share(work, COUNT)

"""Where benchmarks run: on the CPU that workers take, with a clock calibrated there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from pagebench import core
from pagebench.host import machine


@pytest.fixture(scope="module")
def pinned() -> Iterator[int]:
    """The CPU that this process keeps to meanwhile."""
    allowed = os.sched_getaffinity(0)
    cpu = machine.default_cpu()
    core.pin(cpu)
    yield cpu
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="module")
def clock(pinned: int) -> core.Clock:
    """Calibrated by spinning, which brings the core up to speed."""
    return core.Clock()


@pytest.fixture(scope="session")
def seed() -> int:
    """Of every draw; new in each run."""
    return secrets.randbits(32)

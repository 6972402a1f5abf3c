"""The clock, and batches that cannot be timed."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from pagebench import core


def test_a_batch_of_nothing() -> None:
    samples = np.zeros(1, core.SAMPLE_DTYPE)
    samples["run"] = core.ADD_CHAIN
    with pytest.raises(OSError, match="a batch without lookups") as caught:
        core.run_samples(core.Clock(1_000_000), samples)
    assert caught.value.errno == errno.EINVAL


def test_clocks() -> None:
    assert core.Clock(1_000_000, "gettime").ticks_per_ns == 1
    assert core.Clock(1_000_000, "counter").kind == "counter"
    best = core.Clock(1_000_000)
    assert best.kind in core.Clock.KINDS
    assert best.granularity_ns > 0
    assert best.cost_ns >= 0


def test_pinning_to_no_cpu() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="pinning to CPU 4294967295") as caught:
        core.pin(2**32 - 1)
    assert caught.value.errno == errno.EINVAL
    assert os.sched_getaffinity(0) == before

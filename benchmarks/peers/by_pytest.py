"""One repeat by pytest-benchmark with Python's clock, as its users write it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from case import NAMES, loops
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, Callable[[], object]]]:
    with ExitStack() as stack:
        yield loops(int(os.environ["PEERS_FOOTPRINT"]), stack)


@pytest.mark.parametrize("name", NAMES)
def test_loop(benchmark: BenchmarkFixture, calls: dict[str, Callable[[], object]], name: str) -> None:
    benchmark(calls[name])

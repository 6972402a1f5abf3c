"""Every variant's loops in L1, in seconds per lookup as C measured them.

To notice that one got slower: ``--benchmark-autosave``, later ``--benchmark-compare
--benchmark-compare-fail=median:25%``.  Everything is sampled before the first benchmark, all by turns: a
neighbour's burst then hits a few rounds of each and not all rounds of one.  pytest-benchmark is told the
times afterwards.  To tell variants apart there is ``pagebench run``, which has processes and intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from lookups import FOOTPRINT_BYTES, MeasuredTimer, Rounds, place, windows
from pytest_benchmark.fixture import BenchmarkFixture

from pagebench import core, names
from pagebench.code import form
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.measure import verification
from pagebench.measure.windows import Windows
from pagebench.units import KIB, MIB
from pagebench.variants import registry

VARIANTS = [name for name in core.built_in_variants() if name != names.CONTROL]
# Those that leave struct pages as they were.
TIMED_PROBES = ("lookup", "chain", "flags", "get")
ORDERS = (0, 2, 9)
# Some 50 ms for each benchmark, over some 7 s.
PASSES = 32
ROUNDS_PER_PASS = 32
COPIES = 128
# Every variant and order has a memmap of its own: 16 KiB, or one folio of order 9.
SLOT_BYTES = 32 * KIB

TIMER = MeasuredTimer()

# What is benchmarked: probe, order, variant.
Case = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came of each case: its rounds, or why it was not timed."""

    cases: dict[Case, Rounds | PagebenchError]
    backing: str


@pytest.fixture(scope="module")
def sampled(request: pytest.FixtureRequest, clock: core.Clock, seed: int) -> Iterator[Sampled]:
    """All cases that are going to be asked for, sampled by turns."""
    rng = np.random.default_rng(seed)
    asked: list[Case] = [
        tuple(item.callspec.params[axis] for axis in ("probe", "order", "variant"))  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_compound_head"
    ]
    # With --benchmark-disable it is a test of the benchmarks.
    passes = 1 if request.config.getoption("benchmark_disable") else PASSES
    lookups = {order: windows(order, rng) for order in ORDERS}
    slots = {slot: i * SLOT_BYTES for i, slot in enumerate(dict.fromkeys(case[1:] for case in asked))}
    with ExitStack() as stack:
        memory = stack.enter_context(core.Reservation(2 * MIB, 2 * MIB, "2m"))
        cases: dict[Case, Rounds | PagebenchError] = {}
        for probe, order, name in asked:
            variant, base = registry.find(name), memory.base + slots[order, name]
            core.populate(variant, base, lookups[order].folio_map.folios)
            runs = place(variant.probes[probe], COPIES, stack, rng)
            try:
                verify(variant, probe, runs, base, lookups[order])
            except PagebenchError as error:
                cases[probe, order, name] = error
            else:
                rounds = Rounds(runs, base, lookups[order], clock, passes * ROUNDS_PER_PASS)
                cases[probe, order, name] = rounds
        timed = [rounds for rounds in cases.values() if isinstance(rounds, Rounds)]
        for first in range(0, passes * ROUNDS_PER_PASS, ROUNDS_PER_PASS):
            for i in rng.permutation(len(timed)):
                timed[i].run(first, first + ROUNDS_PER_PASS)
        yield Sampled(cases, names.backing_name(resources.backing_obtained(memory.base, memory.size)))


def verify(
    variant: core.Variant, probe: str, runs: npt.NDArray[np.uint64], base: int, lookups: Windows
) -> None:
    """Look every pfn up through every copy; through lookup first, if the probe goes on to write to heads."""
    folio_map = lookups.folio_map
    pages, heads = (folio_map.offsets_of(pfns) for pfns in (folio_map.page_pfns, folio_map.page_heads))
    expected = pages if variant.name == names.IDENTITY else heads
    first = [variant.probes["lookup"].run] if variant.probes[probe].uses_head else []
    for run in (*first, *map(int, runs)):
        found = core.verify(run, base, pages, expected)
        if found.wrong:
            raise verification.wrong_head(variant.name, probe, folio_map, folio_map.page_pfns, found)


def heads_are_right(variant: core.Variant, rounds: Rounds) -> bool:
    """Whether every batch returned the head that geometry dictates."""
    pfns, got = rounds.last()
    folio_map = rounds.windows.folio_map
    heads = pfns if variant.name == names.IDENTITY else folio_map.heads_of(pfns)
    expected = folio_map.offsets_of(heads).astype(np.uint64) * np.uint64(core.OFFSET_UNIT)
    return bool(np.all(got - rounds.samples["base"][:, 1] == expected))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("order", ORDERS, ids="order{}".format)
@pytest.mark.parametrize("probe", TIMED_PROBES)
@pytest.mark.benchmark(timer=TIMER.read)
def test_compound_head(
    benchmark: BenchmarkFixture, probe: str, order: int, variant: str, sampled: Sampled, seed: int
) -> None:
    benchmark.group = f"{probe} order {order}"
    timed, rounds = registry.find(variant), sampled.cases[probe, order, variant]
    if isinstance(rounds, PagebenchError):
        raise rounds
    assert heads_are_right(timed, rounds), f"{variant} returned a wrong head while it was timed"
    seconds = rounds.seconds()
    replay = iter(seconds)
    benchmark.pedantic(lambda: TIMER.advance(next(replay)), rounds=len(seconds))
    benchmark.extra_info.update(
        form=form.analyse(timed.probes[probe]).form,
        cycles_per_lookup=round(float(np.median(rounds.cycles())), 4),
        ghz=round(rounds.ghz(), 4),
        verified=True,
        footprint_bytes=FOOTPRINT_BYTES,
        touched_bytes=rounds.windows.touched_bytes(timed.probes[probe].uses_head, "plain"),
        backing=sampled.backing,
        lookups_per_round=rounds.lookups,
        copies=len(np.unique(rounds.samples["run"][:, 1])),
        seed=seed,
        compiler=core.compiler(),
        cflags=core.variant_cflags(),
    )

"""The ways through a loop, as they were taken, and the chain of each."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from hand_made import loop
from populated import Memmap

from pagebench import core
from pagebench.cache import recorded
from pagebench.cache.turns import chain_of
from pagebench.results.simulated import Chain

pytestmark = pytest.mark.usefixtures("own_cache")
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="hand-made code is x86-64's")

# Odd offsets go on: rcx waits for 2 + 3 cycles more, and their own word of memory.
TWO_WAYS = """\
1: mov eax, [rsi]
add rcx, rax
test al, 1
je 2f
add rcx, rax
imul rcx, rcx
and rcx, 0
add rcx, [rdi + rcx]
2: add rsi, 4
dec rdx
jne 1b
mov rax, rcx
ret"""
# As often round the inner loop as the offset says.
INNER = """\
1: mov eax, [rsi]
2: imul rcx, rcx
dec eax
jne 2b
add rsi, 4
dec rdx
jne 1b
ret"""


def chain_by_hand(text: str, offsets: list[int], adds_at_rename: bool = False) -> Chain:
    one = ("", "by hand")
    probe = loop(text)
    ready = recorded.record({one: probe})
    memory, pattern = np.zeros(64, np.uint64), np.array(offsets, np.uint32)
    with core.Recorder(ready.loops, 10_000) as recorder:
        records, _ = recorder.run(ready.runs[one], memory.ctypes.data, pattern)
        return chain_of(probe, ready.sites[one], records, pattern, adds_at_rename)


# The last turn goes on into the function's end, and is left out.
@on_x86
@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0] * 10, Chain(1, 0)),
        ([1] * 10, Chain(7, 1)),
        ([0, 1] * 5 + [0], Chain(4, 0.5)),
        ([0, 0, 0, 1] * 25 + [1], Chain(2.5, 0.25)),
        ([1, 0, 0], Chain(4, 0.5)),
        ([0], Chain(0, 0)),
    ],
)
def test_an_average_over_the_ways_that_were_taken(offsets: list[int], expected: Chain) -> None:
    assert chain_by_hand(TWO_WAYS, offsets) == expected


@on_x86
def test_a_way_may_go_round_inside() -> None:
    assert chain_by_hand(INNER, [1] * 5) == Chain(3, 0)
    assert chain_by_hand(INNER, [4] * 5) == Chain(12, 0)
    assert chain_by_hand(INNER, [1, 3] * 5 + [1]) == Chain(6, 0)


@on_x86
def test_constants_may_be_added_at_rename() -> None:
    text = "1: mov eax, [rsi]; add rsi, 4; dec rdx; jne 1b; ret"
    assert chain_by_hand(text, [0] * 9) == Chain(1, 0)
    assert chain_by_hand(text, [0] * 9, adds_at_rename=True) == Chain(0, 0)


@pytest.mark.parametrize(
    ("name", "probe_name", "loads"),
    [
        ("pointer-select", "chain", 1.0),
        ("branchless", "chain", 1.0),
        ("pointer-branch", "chain", 0.75),
        ("identity", "chain", 0.0),
        ("pointer-select", "flags", 2.0),
        ("pointer-branch", "flags", 1.75),
        ("pointer-select", "lookup", 0.0),
        ("identity", "lookup", 0.0),
    ],
)
def test_loads_of_built_in_chains(name: str, probe_name: str, loads: float) -> None:
    """Over all pages of folios of four: behind a branch, only a tail's head comes from its word."""
    variant = core.built_in_variants()[name]
    probe, one = variant.probes[probe_name], (name, probe_name)
    ready = recorded.record({one: probe})
    with Memmap(variant, 2, 65) as memmap, core.Recorder(ready.loops, 10_000) as recorder:
        offsets = memmap.offsets[: 4 * 64 + 1].copy()
        records, _ = recorder.run(ready.runs[one], memmap.base, offsets)
        found = chain_of(probe, ready.sites[one], records, offsets, False)
    assert found.loads == pytest.approx(loads)
    assert 0 <= found.cycles < 12

"""The ways through a loop that were taken, and what each makes a lookup wait for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagebench import core
from pagebench.code import chain
from pagebench.code.disassembly import decode
from pagebench.code.recording import BRANCH, SITE_SHIFT, Site
from pagebench.results.simulated import Chain


def chain_of(
    probe: core.Probe,
    sites: Sequence[Site],
    records: core.Records,
    pattern: core.Offsets,
    adds_at_rename: bool,
) -> Chain:
    """The chain of a loop over the turns that were recorded, each of which begins where it reads ``pattern``.

    An average, by how often each way was taken.
    """
    branch = records >= np.uint64(BRANCH)
    site = (records >> np.uint64(SITE_SHIFT) & np.uint64(0x7FFF)).astype(np.int64)
    begin = pattern.ctypes.data
    address = records & np.uint64((1 << SITE_SHIFT) - 1)
    starts = np.flatnonzero(~branch & (address >= begin) & (address < begin + pattern.nbytes))
    # A way is known by the sum of drawn numbers, one for each outcome of each branch, and one a place.
    outcome = np.where(branch, 2 * site + (records & np.uint64(1)).astype(np.int64), -1)
    drawn = np.random.default_rng(0).integers(0, 1 << 62, 2 * len(sites) + 1)
    drawn[-1] = 0
    first_of_turn = np.maximum.accumulate(
        np.where(np.isin(np.arange(len(records)), starts), np.arange(len(records)), 0)
    )
    values = drawn[outcome] * (2 * (np.arange(len(records)) - first_of_turn) + 1)
    # The last turn goes on into the function's end.
    whole = starts[:-1]
    sums = np.add.reduceat(values, starts)[:-1]
    _, first, counts = np.unique(sums, return_index=True, return_counts=True)
    ops = decode(probe)
    cycles = loads = 0.0
    for index, count in zip(first, counts, strict=True):
        turn = slice(whole[index], starts[index + 1])
        told = (records[turn][branch[turn]] & np.uint64(1)).astype(bool).tolist()
        path = chain.path_of(ops, sites[site[whole[index]]].offset, told)
        of_registers, of_loads = chain.chain(path, adds_at_rename)
        cycles += of_registers * count / len(whole)
        loads += of_loads * count / len(whole)
    return Chain(max(0.0, round(float(cycles), 4)), max(0.0, round(float(loads), 4)))

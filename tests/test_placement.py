"""Copies of timed loops."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from populated import Memmap

from pagebench import architecture, core

# Positive for the C library, yet beyond any address space: refused whatever vm.overcommit_memory says.
TOO_MUCH = 1 << 62


@pytest.fixture
def arena() -> Iterator[core.CodeArena]:
    with core.CodeArena(1 << 16) as arena:
        yield arena


def test_too_much_code() -> None:
    with pytest.raises(OSError, match=f"reserving {TOO_MUCH} bytes for code: .*memory") as caught:
        core.CodeArena(TOO_MUCH)
    assert caught.value.errno == errno.ENOMEM


def test_an_arena_is_closed_once() -> None:
    arena = core.CodeArena(4096)
    arena.close()
    arena.close()


def test_code_outside_an_arena(arena: core.CodeArena) -> None:
    probe = core.built_in_variants()["pointer"].probes["lookup"]
    arena.copy(probe, arena.size - len(probe.code))
    for offset in (-1, arena.size - len(probe.code) + 1, 1 << 70):
        with pytest.raises(IndexError, match=f"outside the arena's {arena.size}"):
            arena.copy(probe, offset)


def test_copies_are_the_code_and_find_the_same(arena: core.CodeArena) -> None:
    step = architecture.find().instruction_alignment
    variant = core.built_in_variants()["pointer-branch"]
    probe = variant.probes["lookup"]
    runs = [arena.copy(probe, 1024 * i + i * step) for i in range(16)]
    assert all(arena.holds(probe, run) for run in runs)
    assert not arena.holds(probe, runs[3] + 1)
    arena.seal()
    with Memmap(variant, order=3, folios=8) as memmap:
        for run in runs:
            assert core.verify(run, memmap.base, memmap.offsets, memmap.heads) == core.Verification(0, 0, 0)

"""Holes: what is no memory is no page that is nothing in particular."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import plant
from planted_captures import Named, named, runs_of

from pagebench.host import holes

BLOCKS = "sys/devices/system/memory"


def blocks(*online: int, offline: tuple[int, ...] = ()) -> dict[str, str | bytes]:
    states = dict.fromkeys(online, "online") | dict.fromkeys(offline, "offline")
    return {f"{BLOCKS}/block_size_bytes": "8000\n"} | {
        f"{BLOCKS}/memory{number}/state": f"{state}\n" for number, state in states.items()
    }


def test_blocks_that_are_neighbours_are_one_range(tmp_path: Path) -> None:
    files = blocks(0, 1, 2, 4, 10, 11, offline=(3,))
    assert holes.memory_ranges(plant(tmp_path, files)) == [(0, 24), (32, 40), (80, 96)]


@pytest.mark.parametrize(
    "files",
    [{}, {f"{BLOCKS}/block_size_bytes": "eight\n"}, {f"{BLOCKS}/block_size_bytes": "0\n"}, blocks()],
)
def test_where_nothing_is_said_nothing_is_known(files: dict[str, str | bytes], tmp_path: Path) -> None:
    assert holes.memory_ranges(plant(tmp_path, files)) is None


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("other", 0, 8), ("slab", 0, 8)], [("other", 0, 8), ("slab", 0, 8)]),
        ([("other", 0, 40)], [("other", 0, 16), ("nopage", 0, 8), ("other", 0, 8), ("nopage", 0, 8)]),
        ([("buddy", 0, 20), ("other", 0, 2)], [("buddy", 0, 20), ("nopage", 0, 2)]),
        (
            [("buddy", 0, 16), ("other", 0, 8), ("buddy", 0, 8)],
            [("buddy", 0, 16), ("nopage", 0, 8), ("buddy", 0, 8)],
        ),
        # a folio is a page that somebody has
        ([("other", 4, 2)], [("other", 4, 2)]),
        ([("nopage", 0, 16), ("other", 0, 16)], [("nopage", 0, 24), ("other", 0, 8)]),
    ],
)
def test_only_what_is_in_no_memory(runs: list[Named], expected: list[Named]) -> None:
    if runs[0][0] == "nopage":
        expected = [("nopage", 0, 24), ("other", 0, 8)]
    assert named(holes.punch(runs_of(runs), 0, [(0, 16), (24, 32)])) == expected


def test_a_window_behind_and_before_all_memory() -> None:
    assert named(holes.punch(runs_of([("other", 0, 4)]), 100, [(0, 16)])) == [("nopage", 0, 4)]
    assert named(holes.punch(runs_of([("other", 0, 4)]), 0, [(16, 32)])) == [("nopage", 0, 4)]
    assert named(holes.punch(runs_of([("other", 0, 4)]), 18, [(16, 32)])) == [("other", 0, 4)]
    assert named(holes.punch(runs_of([("other", 0, 4)]), 0, None)) == [("other", 0, 4)]

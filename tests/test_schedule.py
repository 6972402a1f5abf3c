"""In which order cells are visited."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import summaries
from hypothesis import given
from hypothesis import strategies as st

from pagebench.measure.schedule import balanced_orders, segments, williams_orders


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32))
def test_every_round_is_a_permutation_balanced_over_places(count: int, rounds: int, seed: int) -> None:
    cells = [10 * c for c in range(count)]
    orders = balanced_orders(cells, rounds, np.random.default_rng(seed))
    assert orders.shape == (rounds, count)
    assert all(sorted(row) == cells for row in orders.tolist())
    for place in range(count):
        times = Counter(orders[:, place].tolist())
        assert max(times.values()) - min(times.get(cell, 0) for cell in cells) <= 1


def test_orders_are_drawn_anew() -> None:
    rng = np.random.default_rng(0)
    first, second = balanced_orders(range(7), 63, rng), balanced_orders(range(7), 63, rng)
    assert not np.array_equal(first, second)
    squares = first.reshape(9, 7, 7)
    assert len({square.tobytes() for square in squares}) == 9
    # Which cell comes before which is not always the same either.
    after = Counter(pair for row in first.tolist() for pair in itertools.pairwise(row))
    assert len(after) > 25


def test_segments_are_the_encodings_of_shared_frames() -> None:
    shared = summaries.group_of(["pointer", "mask", "fakehead", "branchless"])
    parts = segments(shared)
    assert sorted(c for part in parts for c in part) == list(range(len(shared.cells)))
    # The loop without a lookup has a turn of its own.
    assert [
        {(shared.cells[c].tail_words, shared.cells[c].role == "identity") for c in part} for part in parts
    ] == [
        {(0, False)},
        {(0, True)},
        {(1, False)},
    ]
    apart = dataclasses.replace(shared, shared=False)
    assert segments(apart) == [list(range(len(apart.cells)))]


@pytest.mark.parametrize("count", range(1, 9))
def test_in_williams_designs_each_follows_each_other_equally_often(count: int) -> None:
    rows = count if count % 2 == 0 else 2 * count
    orders = williams_orders(count, 3 * rows, np.random.default_rng(count))
    assert orders.shape == (3 * rows, count)
    assert (np.sort(orders, axis=1) == np.arange(count)).all()
    for square in orders.reshape(3, rows, count):
        pairs = Counter(pair for row in square.tolist() for pair in itertools.pairwise(row))
        assert set(pairs) == set(itertools.permutations(range(count), 2))
        assert len(set(pairs.values())) <= 1
        # And each stands in each place equally often.
        assert all(len(set(np.bincount(square[:, place], minlength=count))) == 1 for place in range(count))


def test_williams_designs_are_drawn_anew() -> None:
    rng = np.random.default_rng(2)
    squares = [williams_orders(6, 6, rng).tobytes() for _ in range(20)]
    assert len(set(squares)) > 15
    assert williams_orders(6, 63, rng).shape == (63, 6)

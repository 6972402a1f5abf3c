"""Schedules: which cells are visited together, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.plan import places
from pagebench.plan.groups import Group

Ints = npt.NDArray[np.int64]


def balanced_orders(cells: Sequence[int], rounds: int, rng: np.random.Generator) -> Ints:
    """An order for each round: (rounds, len(cells)).

    From Latin squares drawn anew, so that every cell stands in every place
    equally often, to within one.
    """
    count = len(cells)
    squares = -(-rounds // count)
    symbols = rng.permuted(np.tile(np.array(cells), (squares, 1)), axis=1)
    shifts = rng.permuted(np.tile(np.arange(count), (squares, 1)), axis=1)
    # [square, row, column]: each row a rotation of the square's symbols.
    columns = (np.arange(count) + shifts[:, :, None]) % count
    orders = np.take_along_axis(symbols[:, None, :], columns, axis=2)
    return np.asarray(orders.reshape(-1, count)[:rounds])


def drawn_evenly(values: npt.NDArray[Any], count: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """``count`` of the values in a drawn order, each equally often, to within one."""
    passes = -(-count // len(values))
    return rng.permuted(np.tile(values, (passes, 1)), axis=1).reshape(-1)[:count]


def williams_rows(count: int) -> int:
    """The rows of Williams' design for ``count`` segments: an odd number needs the mirror image too."""
    return count if count % 2 == 0 or count == 1 else 2 * count


def williams_orders(count: int, rows: int, rng: np.random.Generator) -> Ints:
    """In which order ``count`` segments take turns, block by block: (rows, count).

    Williams' designs (Australian Journal of Scientific Research, 1949), relabelled and shuffled anew for each
    square: inside rows every segment follows each other one equally often, so that none finds the caches as
    always the same neighbour leaves them.
    """
    zigzag = np.zeros(count, np.int64)  # 0, 1, n-1, 2, n-2, ...
    zigzag[1::2] = np.arange(1, count // 2 + 1)
    zigzag[2::2] = np.arange(count - 1, count // 2, -1)
    square = (zigzag + np.arange(count)[:, None]) % count
    square = np.concatenate([square, square[:, ::-1]])[: williams_rows(count)]
    orders = [
        rng.permutation(count)[square[rng.permutation(len(square))]] for _ in range(-(-rows // len(square)))
    ]
    return np.asarray(np.concatenate(orders)[:rows])


class Schedule:
    """All rounds of a segment.

    ``visits``: the segment's cells, then some of them again, not kept.
    ``order`` and ``starts``: (rounds, visits), the index of the visit in each
    place and where its window starts.  ``samples``: core.SAMPLE_DTYPE,
    (rounds, 1 + visits + 1), an add chain at either end.
    """

    def __init__(
        self,
        segment: Sequence[int],
        visits: Sequence[int],
        order: Ints,
        starts: Ints,
        samples: npt.NDArray[Any],
    ) -> None:
        self.segment = segment
        self.visits = visits
        self.order = order
        self.starts = starts
        self.samples = samples


def segments(group: Group) -> list[list[int]]:
    """Indices of cells that are visited together: one memmap's in one encoding, if frames are shared.

    What takes turns so takes turns with the caches too: one layout's lines do
    not stand in another's way.
    """
    cells = range(len(group.cells))
    if not group.shared:
        return [list(cells)]
    # The loop without a lookup has a turn of its own: its offsets cross the caches as everybody's do, and
    # would do so among the reference's cells alone.
    keys = [
        (places.place_of(cell, group.shared), cell.tail_words, cell.role == "identity")
        for cell in group.cells
    ]
    return [[c for c in cells if keys[c] == key] for key in sorted(set(keys))]

"""Predictions beside measurements: a check of the instrument, and of the model."""

from __future__ import annotations

from collections.abc import Sequence

from pagebench.results.lines import Prediction
from pagebench.results.statistics import number
from pagebench.results.summary import Number, Row, Static


def static(prediction: Prediction | None, cells: Sequence[Row], harness: Sequence[Row]) -> list[Static]:
    """The cells that are inside L1 and hit it, one of each contender and probe: where predictions hold."""
    if prediction is None:
        return []
    rows: list[Static] = []
    for probe in dict.fromkeys(row.probe for row in cells):
        inside = [row for row in cells if row.probe == probe and row.level == "l1" and row.layout == "plain"]
        if not inside:
            continue
        # Base pages have no tails, and no branch to be foreseen.
        place = min((row.order, row.footprint_bytes, row.pattern) for row in inside)
        mine = [
            row
            for row in (*inside, *harness)
            if row.probe == probe and (row.order, row.footprint_bytes, row.pattern) == place
        ]
        rests = [_less(row.cycles.median, prediction.cycles[row.variant][probe]) for row in mine]
        references = (rest for row, rest in zip(mine, rests, strict=True) if row.verdict == "reference")
        of_reference = next(references, None)
        rows += [
            Static(
                contender=row.contender,
                probe=probe,
                order=row.order,
                footprint_bytes=row.footprint_bytes,
                predicted=prediction.cycles[row.variant][probe],
                measured=row.cycles.median,
                rest=rest,
                difference_rest=None if row.verdict == "reference" else _less(rest, of_reference),
            )
            for row, rest in zip(mine, rests, strict=True)
        ]
    return rows


def _less(one: Number, other: Number) -> Number:
    return None if one is None or other is None else number(one - other)

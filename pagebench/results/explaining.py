"""Predictions beside measurements: a check of the instrument, and of the model."""

from __future__ import annotations

from collections.abc import Sequence

from pagebench.results.judgement import number
from pagebench.results.lines import Prediction
from pagebench.results.summary import Number, Row, Static


def static(prediction: Prediction | None, cells: Sequence[Row], harness: Sequence[Row]) -> list[Static]:
    """The cells that are inside L1 and hit it, one of each contender and probe: where predictions hold.

    ``cells`` have each group's reference first.
    """
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
        reference = next((row for row in mine if row.verdict == "reference"), None)
        rests: dict[str, Number] = {}
        for row in mine:
            predicted, measured = prediction.cycles[row.variant][probe], row.cycles.median
            known = predicted is not None and measured is not None
            rest = number(measured - predicted) if known else None  # type: ignore[operator]
            rests[row.contender] = rest
            of_reference = None if reference is None else rests.get(reference.contender)
            compared = row is not reference and rest is not None and of_reference is not None
            rows.append(
                Static(
                    contender=row.contender,
                    probe=probe,
                    order=row.order,
                    footprint_bytes=row.footprint_bytes,
                    predicted=predicted,
                    measured=measured,
                    rest=rest,
                    difference_rest=number(rest - of_reference) if compared else None,  # type: ignore[operator]
                )
            )
    return rows

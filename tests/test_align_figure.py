"""The figure of memory models against orders."""

from __future__ import annotations

import dataclasses

import proven
import pytest
from matplotlib.text import Annotation

from pagebench.memmap.models import MODELS, NO_FOLIO, OK, WRONG
from pagebench.report import align_figure


@pytest.mark.slow
def test_the_figure_shows_every_model_and_order() -> None:
    proofs = proven.all_orders().proofs
    kept = {"struct_page_bytes": 96, "encoding": "pointer", "found": OK}
    pointer = tuple(dataclasses.replace(proof, **kept) for proof in proofs)
    figure = align_figure.figure(dataclasses.replace(proven.all_orders(), proofs=(*proofs, *pointer)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Base page 4K, struct page 64 bytes: mask",
        "Base page 4K, struct page 96 bytes: pointer",
    ]
    for axes, shown in zip(figure.axes, (proofs, pointer), strict=True):
        texts = [text for text in axes.texts if not isinstance(text, Annotation)]
        cells = {text.get_position(): text.get_text() for text in texts}
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [model.name for model in MODELS]
        for proof in shown:
            expected = {OK: "ok", WRONG: "100%", NO_FOLIO: "\N{EN DASH}"}[proof.found]
            assert cells[proof.order, names.index(proof.model)] == expected
        assert len(axes.patches) == len(shown)

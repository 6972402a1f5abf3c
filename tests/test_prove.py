"""The memory models' proof: every page looked up at the worst addresses."""

from __future__ import annotations

import proven
import pytest
from planted_models import FOUR_K

from pagebench import cli
from pagebench.host import resources
from pagebench.memmap import memmaps
from pagebench.memmap.models import MODELS, NO_FOLIO, OK, WRONG
from pagebench.results.proofs import disagreements


def test_every_tail_of_every_order_is_looked_up() -> None:
    assert [(p.model, p.order) for p in proven.all_orders().proofs] == [
        (m.name, order) for m in MODELS for order in range(23)
    ]
    for proof in proven.all_orders().proofs:
        assert proof.found == proof.expected
        assert proof.obtained_bytes == proof.promised_bytes
        assert proof.tails == proof.heads * ((1 << proof.order) - 1)
        assert proof.wrong_tails == (proof.tails if proof.found == WRONG else 0)
        assert proof.wrong_heads == 0
        assert (proof.heads > 0) == (proof.found != NO_FOLIO)


def test_no_folio_is_above_a_sections_order() -> None:
    for proof in proven.all_orders().proofs:
        above = proof.model.startswith("sparsemem") and proof.order > FOUR_K.pfn_section_shift
        assert (proof.found == NO_FOLIO) == above


def test_the_pointer_needs_no_alignment() -> None:
    few = proven.low_orders().proofs
    assert {(p.struct_page_bytes, p.encoding) for p in few} == {
        (64, "mask"),
        (56, "pointer"),
        (96, "pointer"),
    }
    assert {p.found for p in few if p.struct_page_bytes != 64} == {OK}
    assert not disagreements(few)


def test_cli_refuses_what_does_not_fit_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "available_bytes", lambda: 300 << 20)
    monkeypatch.setattr(memmaps.mmap, "mmap", lambda *_: pytest.fail("allocated"))
    assert cli.main(["align", "--struct-page", "64"]) == 2
    assert "need 304M and 300M of memory are free" in capsys.readouterr().err

"""What may be expected of a lookup, and what is found."""

from __future__ import annotations

import pytest

from pagebench import core
from pagebench.code import expectation, form
from pagebench.errors import PagebenchError


@pytest.fixture(scope="module")
def listing() -> form.Listing:
    return form.analyse(core.built_in_variants()["branchless"].probes["chain"])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("form=arith", True),
        ("form!=arith", False),
        ("form=branch", False),
        ("form!=branch", True),
        (" form = arith , instructions <= {n}", True),
        ("instructions<{n}", False),
        ("instructions>{n}", False),
        ("instructions>={n},instructions={n}", True),
        ("bytes!={b}", False),
        ("bytes<={b},form=select", False),
    ],
)
def test_what_holds(text: str, holds: bool, listing: form.Listing) -> None:
    filled = text.format(n=listing.variant_instructions, b=listing.variant_bytes)
    assert all(one.holds(listing) for one in expectation.parse(filled)) is holds


def test_what_is_found_is_what_may_be_expected(listing: form.Listing) -> None:
    found = expectation.found(listing)
    assert found.startswith("form=arith,instructions=")
    assert all(one.holds(listing) for one in expectation.parse(found))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no expectation: write it as form=arith,instructions<=6"),
        ("arith", "is no expectation"),
        ("form=arith,", "is no expectation"),
        ("form=arit", "unknown form 'arit': did you mean 'arith'"),
        ("form<=arith", "a form is = or != another"),
        ("instruction<=6", "unknown expectation 'instruction': did you mean 'instructions'"),
        ("bytes<=few", "'few' is not a whole number"),
    ],
)
def test_what_cannot_be_expected(text: str, why: str) -> None:
    with pytest.raises(PagebenchError, match=why):
        expectation.parse(text)

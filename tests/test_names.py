"""The vocabulary."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench import names
from pagebench.units import MIB


@pytest.mark.parametrize(
    ("small", "huge", "name"),
    [
        (0, 8 * MIB, "2m"),
        (8 * MIB, 0, "4k"),
        (13, 87, "mixed (87 % 2m)"),
        (4096, 1024 * MIB, "mixed (99 % 2m)"),
        (1024 * MIB, 4096, "mixed (1 % 2m)"),
        (0, 0, "unknown"),
    ],
)
def test_backing_names(small: int, huge: int, name: str) -> None:
    assert names.backing_name({"4k": small, "2m": huge}) == name


@given(
    st.text(max_size=30),
    st.lists(st.from_regex(r"[a-z0-9@:-]{1,12}", fullmatch=True), min_size=1, max_size=6),
)
def test_the_hint_is_a_known_name(name: str, known: list[str]) -> None:
    message = str(names.nearest(name, known, "probe"))
    assert message.startswith(f"unknown probe {name!r}: ")
    hint = message.removeprefix(f"unknown probe {name!r}: ")
    if meant := re.fullmatch(r"did you mean '(.*)'\?", hint):
        assert meant[1] in known
    else:
        assert hint == f"known: {', '.join(sorted(known))}"
    assert name not in known or hint == f"did you mean {name!r}?"

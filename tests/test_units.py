from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench.errors import PagebenchError
from pagebench.units import GIB, KIB, MIB, duration, format_size, parse_size

UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}


@given(st.integers(0, 10**9), st.sampled_from(sorted(UNITS)), st.sampled_from(["", "B", "iB", "b", "ib"]))
def test_a_unit_multiplies(number: int, letter: str, suffix: str) -> None:
    size = number * UNITS[letter]
    assert parse_size(f"{number}{letter}{suffix}") == size
    assert parse_size(f" {number}{letter.lower()} ") == size


@pytest.mark.parametrize(
    "text", ["", "K", "1.5M", "-1", "16 K", "16T", "0x10", "16KK", "1K2", "many", "16K,2M"]
)
def test_anything_else_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(PagebenchError, match=f"^{re.escape(repr(text))} is not a size: .*16K"):
        parse_size(text)


@given(st.integers(1, 1023), st.sampled_from(sorted(UNITS)))
def test_a_whole_number_of_a_unit_is_written_exactly(number: int, letter: str) -> None:
    assert format_size(number * UNITS[letter]) == f"{number}{letter}"


@given(st.integers(0, 1 << 50))
def test_what_is_written_is_the_size_to_half_of_its_last_digit(size: int) -> None:
    text = format_size(size)
    match = re.fullmatch(r"(\d+(?:\.\d)?)([KMG]?)", text)
    assert match, text
    unit = UNITS[match[2]]
    assert unit == 1 or size >= unit
    error = abs(float(match[1]) * unit - size)
    assert error <= 0.0500001 * unit
    if "." not in text:
        assert error == 0
        assert parse_size(text) == size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (121, "2 min"), (3600, "60 min"), (7200, "2.0 h"), (1e5, "27.8 h")],
)
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said

"""The vocabulary."""

from __future__ import annotations

import pytest

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

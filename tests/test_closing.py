"""What is held is given back."""

from __future__ import annotations

import pytest

from pagebench.core import Closing


class Held(Closing):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_it_is_closed_at_the_end() -> None:
    with Held() as held:
        assert held.closed == 0
    assert held.closed == 1


def test_it_is_closed_on_the_way_out_of_an_error_which_goes_on() -> None:
    held = Held()
    with pytest.raises(RuntimeError, match="within"), held:
        raise RuntimeError("within")
    assert held.closed == 1


def test_without_a_close_there_is_none() -> None:
    with pytest.raises(TypeError, match="close"):
        Closing()  # type: ignore[abstract]

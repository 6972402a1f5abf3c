"""How far a run is, on a terminal alone."""

from __future__ import annotations

import io
import sys

import pytest

from pagebench.measure.progress import progress_bar


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Stream(terminal))
    with progress_bar() as progress:
        for done in range(3):
            progress(done, 7)
    return stream.getvalue()


def test_a_terminal_shows_what_is_done_and_what_there_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = shown(monkeypatch, terminal=True)
    assert "measuring" in bar and "2/7" in bar and "left" in bar


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == ""

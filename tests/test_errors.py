"""The exception that a user can cause."""

from __future__ import annotations

import pytest

from pagebench import cli, commands
from pagebench.errors import PagebenchError


def test_it_is_a_line_and_an_exit_code() -> None:
    assert (str(PagebenchError("no such file")), PagebenchError("no such file").exit_code) == (
        "no such file",
        2,
    )
    assert PagebenchError("interrupted", exit_code=130).exit_code == 130


@pytest.mark.parametrize("code", [1, 2, 130])
def test_the_command_line_ends_with_both(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise PagebenchError("it is wrong: mend it", exit_code=code)

    monkeypatch.setitem(commands.COMMANDS, "list", fail)
    assert cli.main(("list",)) == code
    assert capsys.readouterr() == ("", "pagebench: it is wrong: mend it\n")

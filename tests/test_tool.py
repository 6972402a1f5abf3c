"""Which pagebench this is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pagebench import __version__, core, tool

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of one commit."""
    (tmp_path / "file").write_text("as committed\n")
    own = ("-c", "user.name=A Test", "-c", "user.email=a@test", "-c", "commit.gpgsign=false")
    for words in (("init", "-q"), ("add", "file"), (*own, "commit", "-q", "--no-verify", "-m", "a test")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


@needs_git
def test_the_commit_of_a_checkout_says_whether_it_was_changed(checkout: Path) -> None:
    commit = tool.checkout_commit(checkout)
    assert re.fullmatch("[0-9a-f]{12}", commit)
    (checkout / "file").write_text("changed\n")
    assert tool.checkout_commit(checkout) == f"{commit}+"


@needs_git
def test_a_tag_is_no_commit(checkout: Path) -> None:
    subprocess.run(["git", "tag", "v1"], cwd=checkout, check=True)
    assert re.fullmatch("[0-9a-f]{12}", tool.checkout_commit(checkout))


def test_where_there_is_no_checkout_or_no_git_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tool.checkout_commit(tmp_path) == ""
    (tmp_path / ".git").mkdir()
    assert tool.checkout_commit(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tool.checkout_commit(tmp_path) == ""


def test_without_a_checkout_it_is_the_commit_that_the_core_was_built_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tool, "checkout_commit", lambda: "")
    monkeypatch.setattr(core, "built_commit", lambda: "0123456789ab")
    assert tool.identity() == {"name": "pagebench", "version": __version__, "commit": "0123456789ab"}
    monkeypatch.setattr(tool, "checkout_commit", lambda: "abcdef012345+")
    assert tool.commit() == "abcdef012345+"

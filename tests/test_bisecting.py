"""``bisect``: exit codes as git reads them, and a history whose commit is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from kernel_trees import in_tree, links, tree_of, with_trees

from pagebench import cli
from pagebench.commands import bisecting

pytestmark = pytest.mark.usefixtures("unpinned")

ENCODES = "#define compound_head(page)\t((typeof(page))_compound_head(page))\n"
# To be found: six more core cycles.
SLOWER = """\
static __always_inline unsigned long slower_compound_head(const struct page *page)
{
	unsigned long head = _compound_head(page);

	asm volatile("imul $1, %0, %0\\n\\timul $1, %0, %0" : "+r" (head));
	return head;
}
#define compound_head(page)	((typeof(page))slower_compound_head(page))
"""
BROKEN = "#define compound_head(page)\t((typeof(page))no_such_function(page))\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "the following arguments are required: --kernel"),
        (("--kernel", "."), "one of the arguments --expect --fail-above is required"),
        (("--kernel", ".", "--expect", "form=arit"), "unknown form 'arit'"),
        (("--kernel", ".", "--expect", ""), "is no expectation"),
        (("--kernel", ".", "--expect", "form=arith", "--probe", "chian"), "did you mean 'chain'"),
        (("--kernel", "nowhere", "--expect", "form=arith"), "nowhere is no kernel tree: it has no Makefile"),
        (("--kernel", "=x", "--expect", "form=arith"), "not of the form NAME=PATH"),
        (("--kernel", "a=.", "--kernel", "b=.", "--expect", "form=arith"), "give --kernel once"),
        (("--kernel", "a=.", "--kernel", "a=.", "--fail-above", "5%"), "two trees are named a"),
        (("--kernel", ".", "--fail-above", "5%"), "give --kernel twice"),
        (("--kernel", "a=.", "--kernel", "b=.", "--fail-above", "5"), "is no threshold"),
        (("--kernel", "a=.", "--kernel", "b=.", "--fail-above", "5%"), "without the good tree nothing"),
        (("--kernel", ".", "--expect", "form=arith", "--unknown"), "unrecognized arguments: --unknown"),
        (("--kernel", ".", "--kernel-cc", "nosuchcc", "--expect", "form=arith"), "nosuchcc"),
        (("--kernel", "a:b=.", "--expect", "form=arith"), "a kernel cannot be named 'a:b'"),
    ],
)
def test_what_is_wrong_with_the_command_stops_git(
    words: Sequence[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From 1 to 127 a commit would be called bad."""
    monkeypatch.chdir(tmp_path)
    Path("Makefile").touch()
    code = cli.main(("bisect", *words))
    _, err = capsys.readouterr()
    assert why in err and err.count("\n") == 1
    assert code == bisecting.STOP


def test_a_bug_stops_git(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(bisecting, "_bisect", crash)
    assert cli.main(("bisect", "--kernel", ".", "--expect", "form=arith")) == bisecting.STOP
    assert "this is a bug, the bisection stops" in capsys.readouterr().err


def test_what_is_no_kernel_tree_cannot_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Makefile").touch()
    assert cli.main(("bisect", "--kernel", str(tmp_path), "--expect", "form=arith")) == bisecting.CANNOT_TELL
    assert "cannot tell: the kernel tree" in capsys.readouterr().err


def test_every_step_has_a_file_of_its_own(tmp_path: Path) -> None:
    asked = tmp_path / "step.jsonl"
    made = []
    for _ in range(3):
        path = bisecting._output(asked)
        assert path is not None
        path.touch()
        made.append(path.name)
    assert made == ["step.jsonl", "step-2.jsonl", "step-3.jsonl"]
    assert bisecting._output(None) is None


def git(repository: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *words],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def history(tmp_path: Path) -> dict[str, str]:
    """Six commits of a tree, by subject: one does not build, from the fifth on the lookup is another one."""
    tree = in_tree(tmp_path, "v7")
    linux = tree / "include/linux"
    headers = linux.resolve()
    linux.unlink()
    links(linux, headers, but=("page-flags.h",))
    header = linux / "page-flags.h"
    content = (headers / header.name).read_text()
    assert content.count(ENCODES) == 1
    git(tree, "init", "-q")
    commits = {}
    states = {
        "first": content,
        "a comment": content + "/* one */\n",
        "broken": content.replace(ENCODES, BROKEN),
        "mended": content + "/* two */\n",
        "slower": content.replace(ENCODES, SLOWER),
        "last": content.replace(ENCODES, SLOWER) + "/* three */\n",
    }
    for subject, state in states.items():
        header.write_text(state)
        git(tree, "add", "-A", "-f")
        git(tree, "commit", "-q", "-m", subject)
        commits[subject] = git(tree, "rev-parse", "HEAD").strip()
    return commits


def bisected(tree: Path, history: dict[str, str], *words: str) -> tuple[str, str]:
    """The subject of the first bad commit, and all that was said."""
    git(tree, "bisect", "start", history["last"], history["first"])
    said = git(tree, "bisect", "run", sys.executable, "-m", "pagebench", "bisect", *words)
    (found,) = re.findall(r"^([0-9a-f]{40}) is the first bad commit$", said, re.MULTILINE)
    git(tree, "bisect", "reset")
    assert git(tree, "status", "--porcelain", "--ignored") == ""  # nothing was left in it
    return next(subject for subject, commit in history.items() if commit == found), said


@with_trees
@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
class TestHistory:
    def test_what_is_expected_finds_the_commit(self, history: dict[str, str], tmp_path: Path) -> None:
        found, said = bisected(
            tmp_path / "linux", history, "--kernel", "here=.", "--expect", "form=arith,instructions<=6"
        )
        assert found == "slower"
        assert "bad: here" in said or "good: here" in said

    def test_a_threshold_finds_the_commit(self, history: dict[str, str], tmp_path: Path) -> None:
        trees = ("--kernel", f"good={tree_of('v7')}", "--kernel", "here=.")
        axes = ("--orders", "2", "--footprints", "16K", "--processes", "6")
        found, _ = bisected(tmp_path / "linux", history, *trees, "--fail-above", "20%", *axes)
        assert found == "slower"

    def test_what_does_not_build_is_skipped(
        self, history: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        git(tmp_path / "linux", "checkout", "-q", history["broken"])
        words = ("bisect", "--kernel", f"here={tmp_path / 'linux'}", "--expect", "form=arith")
        assert cli.main(words) == bisecting.CANNOT_TELL
        assert "cannot tell: " in capfd.readouterr().err

    def test_one_that_is_good_leaves_its_result_file_where_asked(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        result = tmp_path / "kept.jsonl"
        words = ["bisect", "--kernel", f"good={tree_of('v7')}", "--kernel", f"here={tree_of('v7')}"]
        words += ["--fail-above", "50%", "--orders", "2", "--footprints", "16K", "--processes", "6"]
        assert cli.main([*words, "-o", str(result)]) == 0
        out = capsys.readouterr().out
        assert "good: is here slower than good by more than 50%? 1 passed, 0 failed, 0 undecided" in out
        assert f"--kernel good={tree_of('v7')}" in re.sub(r"\\\n *", "", out)
        assert result.exists()


assert shutil.which("git"), "git is what this is for"

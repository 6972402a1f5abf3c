"""The command line: bad input is one line and exit code 2; an interrupt loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from command_line import TINY, contents, run

from pagebench import __version__, cli, commands, names
from pagebench.memmap import models
from pagebench.names import PROBES
from pagebench.plan import options
from pagebench.plan.presets import PRESETS
from pagebench.units import format_size

pytestmark = pytest.mark.usefixtures("unpinned")


RUN = ("run", "-o", "new.jsonl", *TINY)
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no command": ((), "name a command, as in `python -m pagebench run`"),
    "unknown command": (("rnu",), "invalid choice: 'rnu'"),
    "unknown option": (("run", "--contender-list", "mask"), "unrecognized arguments: --contender-list"),
    "unknown variant": (
        (*RUN, "--contenders", "pionter"),
        "unknown variant 'pionter': did you mean 'pointer'",
    ),
    "unknown layout": (
        (*RUN, "--contenders", "mask@hvo-share"),
        "unknown layout .* did you mean 'hvo-shared'",
    ),
    "unknown backing": ((*RUN, "--contenders", "mask@plain:4kb"), "unknown backing '4kb': did you mean '4k'"),
    "backing of a layout": ((*RUN, "--contenders", "fakehead@hvo:4k"), "leave the backing out"),
    "unknown probe": ((*RUN, "--probes", "chan"), "unknown probe 'chan': did you mean 'chain'"),
    "unknown pattern": ((*RUN, "--patterns", "tial"), "unknown pattern 'tial': did you mean 'tails'"),
    "unknown footprint": ((*RUN, "--footprints", "l33"), "unknown footprint 'l33': did you mean 'l3'"),
    "unknown preset": (("run", "-o", "new.jsonl", "--preset", "serie"), "did you mean 'series'"),
    "a name like none": ((*RUN, "--probes", "xyzzy"), "unknown probe 'xyzzy': known: .*chain"),
    "share of heads": ((*RUN, "--patterns", "mixed:2"), "between 0 and 1, as in mixed:0.25"),
    "order 99": ((*RUN, "--orders", "99"), "there is no order 99: .* from 0 to 22"),
    "order -1": ((*RUN, "--orders", "-1"), "there is no order -1: .* from 0 to 22"),
    "order two": ((*RUN, "--orders", "two"), "'two' is not a list of orders: write it as 0,2,9"),
    "footprint too small": ((*RUN, "--footprints", "1000"), "too small: give 1K or more"),
    "footprint no size": ((*RUN, "--footprints", "16X"), "'16X' is not a size: write it as 16K"),
    "footprint negative": ((*RUN, "--footprints", "-5"), "'-5' is not a size"),
    "footprint beyond memory": ((*RUN, "--footprints", "31G"), r"need [\d.]+G and 8G of memory are free"),
    "footprint beyond reach": ((*RUN, "--footprints", "1000G"), r"1000G"),
    "footprint beyond reason": ((*RUN, "--footprints", "9" * 30 + "G"), r"\dG"),
    "empty list": ((*RUN, "--probes", ""), "an empty list or name: give names separated by commas"),
    "empty name": ((*RUN, "--orders", "2,,9"), "an empty list or name"),
    "only commas": ((*RUN, "--contenders", ","), "an empty list or name"),
    "tails at order 0": (
        (*RUN, "--orders", "0", "--patterns", "tails"),
        "nothing to measure .*tails at order 0",
    ),
    "layout at order 0": ((*RUN, "--orders", "0", "--contenders", "fakehead@hvo"), "nothing to measure"),
    "contender nowhere": (
        (*RUN, "--orders", "0,2", "--contenders", "pointer,fakehead@hvo"),
        "fakehead@hvo exists at none of these orders and probes: .* leave it out",
    ),
    "twice": ((*RUN, "--contenders", "mask,mask@plain"), "named twice"),
    "harness": ((*RUN, "--contenders", "identity"), "belongs to the harness"),
    "struct page": ((*RUN, "--struct-page", "60"), "no struct page has 60 bytes: give a multiple of 8"),
    "struct page too small": ((*RUN, "--struct-page", "8"), "too small: give 56 or more"),
    "rounds": ((*RUN, "--rounds", "3"), "3 is too small: give 7 or more"),
    "rounds no number": ((*RUN, "--rounds", "many"), "'many' is not a whole number"),
    "processes": ((*RUN, "--processes", "1"), "1 is too small: give 2 or more"),
    "seed": ((*RUN, "--seed", "-3"), "too small"),
    "margin": ((*RUN, "--margin", "0"), "'0' is not a number of core cycles above 0"),
    "margin nan": ((*RUN, "--margin", "nan"), "'nan' is not a number"),
    "cpu": ((*RUN, "--cpu", "9999"), "no CPU 9999 .* choose a --cpu of"),
    "cpu beyond reason": ((*RUN, "--cpu", "9" * 30), "no CPU 9+ "),
    "both extents": ((*RUN, "--quick", "--full"), "not allowed with argument"),
    "output exists": (("run", "-o", "good.jsonl", *TINY), "good.jsonl exists: name another .*--resume"),
    "output is a directory": (("run", "-o", "directory", *TINY), "directory is a directory: name a file"),
    "output below a file": (("run", "-o", "good.jsonl/new", *TINY), "good.jsonl is not a directory"),
    "output nowhere": (
        ("run", "-o", "/proc/nowhere/new.jsonl", *TINY),
        "cannot write /proc/nowhere/new.jsonl",
    ),
    "resume missing": (("run", "--resume", "none.jsonl"), "cannot read none.jsonl: No such file"),
    "resume foreign": (("run", "--resume", "foreign.jsonl"), "is not a pagebench result file"),
    "resume with options": (
        ("run", "--resume", "good.jsonl", "--orders", "2", "--seed", "1"),
        "takes its options from good.jsonl: leave out --orders, --seed$",
    ),
    "resume with extent": (
        ("run", "--resume", "good.jsonl", "--quick", "--rounds", "9"),
        "leave out --quick, --rounds$",
    ),
    "resume with output": (("run", "--resume", "good.jsonl", "-o", "new.jsonl"), "leave out --output"),
    "resume with static": (("run", "--resume", "good.jsonl", "--static"), "leave out --static$"),
    "resolve no amount": (("run", "--resolve", "0.02"), "write it as 0.02ns, 0.5% or 0.1cycles"),
    "resolve no time": (("run", "--resolve", "1ns", "--at-most", "5"), "write it as 90s, 10min or 2h"),
    "at most of nothing": (("run", "--at-most", "5s"), "--at-most is for --resolve"),
    "selftest with runs": (("selftest", "--of", "good.jsonl", "--runs", "3"), "leave out --runs$"),
    "selftest few": (("selftest", "--processes", "5"), "5 is too small: give 6 or more"),
    "selftest of a run": (("selftest", "--of", "good.jsonl"), "self-test"),
    "selftest missing": (("selftest", "--of", "none.jsonl"), "cannot read none.jsonl"),
    "resume other code": (("run", "--resume", "good.jsonl"), "measured with other machine code"),
    "show nothing": (("show",), "the following arguments are required: FILE"),
    "show missing": (("show", "none.jsonl"), "cannot read none.jsonl: No such file"),
    "show directory": (("show", "directory"), "cannot read directory: Is a directory"),
    "show corrupt": (("show", "corrupt.jsonl"), r"line 4 is damaged \(.*\); delete it"),
    "show cut": (("show", "cut-header.jsonl"), "was cut off in its header"),
    "show empty": (("show", "empty.jsonl"), "was cut off in its header"),
    "show foreign": (("show", "foreign.jsonl"), "is not a pagebench result file"),
    "show newer": (("show", "newer.jsonl"), "has schema 4, this pagebench reads 3"),
    "show unfinished": (("show", "header-only.jsonl"), "holds no finished group yet: .*--resume"),
    "show format": (("show", "good.jsonl", "--format", "yaml"), "invalid choice: 'yaml'"),
    "show margin": (("show", "good.jsonl", "--margin", "-1"), "'-1' is not a number of core cycles"),
    "compare one": (("compare", "good.jsonl"), "name two result files or more"),
    "compare missing": (("compare", "good.jsonl", "none.jsonl"), "cannot read none.jsonl"),
    "compare no name": (
        ("compare", "good.jsonl", "=good.jsonl"),
        "'=good.jsonl' is not of the form NAME=FILE",
    ),
    "compare odd name": (
        ("compare", "good.jsonl", "\x1b[2J=good.jsonl"),
        r"'\\x1b\[2J=good.jsonl' is not of the form",
    ),
    "report directory": (("report", "."), "cannot read .: Is a directory"),
    "bundle directory": (("bundle", "."), "cannot read .: Is a directory"),
    "bundle other code": (("bundle", "good.jsonl"), "measured with other machine code"),
    "replay no bundle": (("replay", "good.jsonl"), "is no bundle"),
    "replay missing": (("replay", "none.tar.zst"), "cannot read none.tar.zst"),
    "join one": (("join", "good.jsonl"), "name two result files or more"),
    "compare no threshold": (
        ("compare", "good.jsonl", "good.jsonl", "--fail-above", "5"),
        "'5' is no threshold: write it as 5%, 0.2ns or 0.5cycles",
    ),
    "compare machines": (
        ("compare", "good.jsonl", "elsewhere.jsonl"),
        "of different machines: CPU model .*--force",
    ),
    "compare unfinished": (("compare", "good.jsonl", "header-only.jsonl"), "holds no finished group yet"),
    "compare nothing in common": (("compare", "good.jsonl", "others.jsonl"), "no cell in common"),
    "export missing": (("export", "none.jsonl"), "cannot read none.jsonl"),
    "plot missing": (("plot", "none.jsonl"), "cannot read none.jsonl"),
    "plot newer": (("plot", "newer.jsonl"), "has schema 4"),
    "plot below a file": (
        ("plot", "good.jsonl", "-o", "foreign.jsonl/x"),
        "cannot write plots to foreign.jsonl/x",
    ),
    "asm variant": (("asm", "maks"), "unknown variant 'maks': did you mean 'mask'"),
    "asm probe": (("asm", "mask", "--probe", "chian"), "unknown probe 'chian': did you mean 'chain'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_code_2_and_no_file(
    case: str, result_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args, why = BAD[case]
    before = contents(result_files)
    assert cli.main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pagebench: ") and err.endswith("\n") and err.count("\n") == 1
    assert re.search(why, err.strip()), err
    assert contents(result_files) == before


@pytest.mark.parametrize("args", [("show", "none.jsonl"), ("run", "--orders", "99"), ("nothing",)])
def test_bad_input_to_a_process(args: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pagebench: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written(result_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("directory").chmod(0o500)
    assert cli.main(("run", "-o", "directory/new.jsonl", *TINY)) == 2
    assert "cannot write directory/new.jsonl: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(commands.COMMANDS))
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main((command, "--help"))
    assert ended.value.code == 0
    assert f"pagebench {command}" in capsys.readouterr().out


TABLES: dict[tuple[str, str], Iterable[object]] = {
    ("run", "--preset"): PRESETS,
    ("run", "--contenders"): (*names.LAYOUTS, *names.BACKINGS),
    ("run", "--footprints"): names.LEVELS,
    ("run", "--patterns"): names.PATTERNS,
    ("run", "--probes"): PROBES,
    ("run", "--memory-model"): [model.name for model in models.MODELS],
    ("run", "--struct-page"): names.BUILT_IN_STRUCT_PAGES,
    ("run", "--rounds"): [options.DEFAULT_ROUNDS],
    ("run", "--processes"): [options.DEFAULT_PROCESSES],
    ("run", "--margin"): [options.DEFAULT_MARGIN_CYCLES],
    ("asm", "--probe"): PROBES,
    ("align", "--base-page"): [format_size(page.bytes) for page in models.BASE_PAGES],
    ("align", "--struct-page"): names.BUILT_IN_STRUCT_PAGES,
}


@pytest.mark.parametrize(("command", "option"), TABLES)
def test_help_of_an_option_names_all_that_it_takes(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main((command, "--help"))
    _, _, after = capsys.readouterr().out.partition(f"\n  {option} ")
    of_option = re.split(r"\n  -", after)[0]
    words = re.findall(r"[\w.-]*\w", of_option)
    assert {str(name) for name in TABLES[command, option]} <= set(words)


@pytest.mark.parametrize(
    ("table", "name", "row", "option"),
    [
        (names.LAYOUTS, "dax", names.Layout("a test", "last-kept", 2), "--contenders"),
        (names.PATTERNS, "every-other", names.PatternRow("a test"), "--patterns"),
        (PRESETS, "mine", PRESETS["series"], "--preset"),
    ],
)
def test_what_is_added_to_a_table_is_in_the_help(
    table: dict[str, object],
    name: str,
    row: object,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(table, name, row)
    test_help_of_an_option_names_all_that_it_takes("run", option, capsys)


def test_help_needs_nothing_heavy() -> None:
    heavy = ("numpy", "matplotlib", "rich", "capstone", "pagebench.core", "pagebench._core")
    code = (
        f"import sys, pagebench.cli; pagebench.cli.parser(); sys.exit(any(m in sys.modules for m in {heavy}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_and_version_of_a_process() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit codes: 0 done" in done.stdout
    assert all(command in done.stdout for command in commands.COMMANDS)
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pagebench {__version__} (")

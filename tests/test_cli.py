"""The command line: bad input is one line and exit code 2; an interrupt loses nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import summaries

from pagebench import __version__, cli, commands, names
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.measure import runner
from pagebench.memmap import models
from pagebench.names import PROBES
from pagebench.plan import options
from pagebench.plan.presets import PRESETS
from pagebench.results import result_file
from pagebench.units import format_size

pytestmark = pytest.mark.usefixtures("unpinned")

TINY = (
    *(
        "--contenders",
        "pointer-select,mask-select",
        "--orders",
        "2",
        "--footprints",
        "16K",
        "--patterns",
        "random",
    ),
    *("--probes", "chain", "--rounds", "7", "--processes", "2"),
)
PLAN = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"], control=True)], rounds=3)


def run(*args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """A pagebench of its own, buffered as a user's is."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": None, **kwargs}
    return subprocess.run(
        [sys.executable, "-m", "pagebench", *args],
        text=True,
        timeout=120,
        check=False,
        env=environment,
        **kwargs,
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with result files of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resources, "available_bytes", lambda *_: 8 << 30)
    summaries.file_of(Path("good.jsonl"), PLAN, summaries.made_up)
    good = Path("good.jsonl").read_bytes()
    Path("cut-header.jsonl").write_bytes(good[:100])
    Path("header-only.jsonl").write_bytes(good.splitlines(keepends=True)[0])
    lines = good.splitlines(keepends=True)
    Path("corrupt.jsonl").write_bytes(b"".join([*lines[:3], b"\0\0\0\0\n", *lines[4:]]))
    Path("foreign.jsonl").write_text("pid,ns\n1,2\n")
    header = summaries.header_of(PLAN, schema=result_file.SCHEMA + 1)
    summaries.write(Path("newer.jsonl"), [header])
    Path("empty.jsonl").write_bytes(b"")
    Path("directory").mkdir()
    return tmp_path


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
    "resume other code": (("run", "--resume", "good.jsonl"), "measured with other machine code"),
    "show nothing": (("show",), "the following arguments are required: FILE"),
    "show missing": (("show", "none.jsonl"), "cannot read none.jsonl: No such file"),
    "show directory": (("show", "directory"), "cannot read directory: Is a directory"),
    "show corrupt": (("show", "corrupt.jsonl"), r"line 4 is damaged \(.*\); delete it"),
    "show cut": (("show", "cut-header.jsonl"), "was cut off in its header"),
    "show empty": (("show", "empty.jsonl"), "was cut off in its header"),
    "show foreign": (("show", "foreign.jsonl"), "is not a pagebench result file"),
    "show newer": (("show", "newer.jsonl"), "has schema 3, this pagebench reads 2"),
    "show unfinished": (("show", "header-only.jsonl"), "holds no finished group yet: .*--resume"),
    "show format": (("show", "good.jsonl", "--format", "yaml"), "invalid choice: 'yaml'"),
    "show margin": (("show", "good.jsonl", "--margin", "-1"), "'-1' is not a number of core cycles"),
    "plot missing": (("plot", "none.jsonl"), "cannot read none.jsonl"),
    "plot newer": (("plot", "newer.jsonl"), "has schema 3"),
    "plot below a file": (
        ("plot", "good.jsonl", "-o", "foreign.jsonl/x"),
        "cannot write plots to foreign.jsonl/x",
    ),
    "asm variant": (("asm", "maks"), "unknown variant 'maks': did you mean 'mask'"),
    "asm probe": (("asm", "mask", "--probe", "chian"), "unknown probe 'chian': did you mean 'chain'"),
}


def files(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_code_2_and_no_file(
    case: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args, why = BAD[case]
    before = files(place)
    assert cli.main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pagebench: ") and err.endswith("\n") and err.count("\n") == 1
    assert re.search(why, err.strip()), err
    assert files(place) == before


@pytest.mark.parametrize("args", [("show", "none.jsonl"), ("run", "--orders", "99"), ("nothing",)])
def test_bad_input_to_a_process(args: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pagebench: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("directory").chmod(0o500)
    assert cli.main(("run", "-o", "directory/new.jsonl", *TINY)) == 2
    assert "cannot write directory/new.jsonl: Permission denied" in capsys.readouterr().err


def test_wrong_code_found_by_a_worker_leaves_no_file(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was measured, so that the same command can be given again."""

    def fail(*_: object) -> None:
        raise PagebenchError("mask@plain finds wrong heads")

    monkeypatch.setattr(runner, "run", fail)
    before = files(place)
    assert cli.main(("run", "-o", "new.jsonl", *TINY)) == 2
    assert capsys.readouterr().err == "pagebench: mask@plain finds wrong heads\n"
    assert files(place) == before


def test_a_run_leaves_a_report_raw_data_and_nothing_on_standard_error(tmp_path: Path) -> None:
    summaries.file_of(tmp_path / "good.jsonl", PLAN, summaries.made_up)
    done = run("run", "-o", "deep/r.jsonl", "--no-plots", "--seed", "7", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pagebench {__version__} (")
    assert done.stdout.endswith("raw data: deep/r.jsonl\n")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("deep/*")] == ["deep/r.jsonl"]
    header = json.loads((tmp_path / "deep/r.jsonl").read_bytes().splitlines()[0])
    assert header["command"] == f"python -m pagebench run {' '.join(TINY)} --seed 7"
    # What tests plant elsewhere is what a run writes.
    planted_header, planted_sampling = (
        json.loads(line) for line in (tmp_path / "good.jsonl").read_bytes().splitlines()[:2]
    )
    sampling = json.loads((tmp_path / "deep/r.jsonl").read_bytes().splitlines()[1])
    assert set(header) == set(planted_header) and set(sampling) == set(planted_sampling)
    for key in ("tool", "compiler", "clock", "machine", "plan"):
        assert set(header[key]) == set(planted_header[key]), key
    known, planted = header["variants"]["mask-select"], planted_header["variants"]["mask-select"]
    assert set(known) == set(planted) and set(known["probes"]["chain"]) == set(planted["probes"]["chain"])
    again = run("show", "deep/r.jsonl", cwd=tmp_path)
    assert done.stdout.startswith(again.stdout)


def test_the_command_that_reproduces_a_run_is_one_that_runs_it(place: Path) -> None:
    """What the header tells to type has to parse to the same options."""
    words = ["run", "--quick", *TINY, "--margin", "0.125", "--struct-page", "96"]
    args = cli.parser().parse_args(words)
    asked = {name: getattr(args, name) for name in commands.ASKED if getattr(args, name) is not None}
    again = cli.parser().parse_args(["run", *commands.words_of(asked)])
    assert vars(again) == vars(args)


def test_plots_are_saved_beside_the_file_or_where_asked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(("plot", "good.jsonl", "-o", "directory/plots")) == 0
    said = capsys.readouterr().out.split()
    assert said and all(Path(path).stat().st_size for path in said)
    assert {Path(path).suffix for path in said} == {".png", ".svg"}
    assert {Path(path).parent for path in said} == {Path("directory/plots")}


def test_show_as_text_and_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("show", "good.jsonl")) == 0
    assert "mask-select" in capsys.readouterr().out
    assert cli.main(("show", "good.jsonl", "--format", "json", "--margin", "0.5")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["margin_cycles"] == 0.5
    assert [cell["contender"] for cell in found["cells"]] == ["pointer-branch@plain", "mask-select@plain"]


def test_a_file_cut_in_its_last_line_is_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.jsonl").write_bytes(Path("good.jsonl").read_bytes()[:-50])
    assert cli.main(("show", "cut.jsonl", "--format", "json")) == 0
    finished = json.loads(capsys.readouterr().out)["finished"]
    assert finished["samplings"] == finished["planned"] - 1


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
    ("run", "--processes"): [options.DEFAULT_PROCESSES, options.QUICK_PROCESSES],
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


def test_list_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("list",)) == 0
    listed = capsys.readouterr().out
    for name in ("branchless", "hvo-shared", "mixed", "chain"):
        assert f"  {name}" in listed


CLOSED = [("--help",), ("run", "--help"), ("--version",), ("list",), ("show", "good.jsonl"), ("asm", "mask")]


@pytest.mark.parametrize("args", CLOSED)
def test_a_reader_that_went_away_is_no_error(args: tuple[str, ...], place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(*args, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_head_of_a_long_report(place: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m pagebench show good.jsonl --format json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("args", CLOSED)
def test_a_full_disk_under_standard_output_is_said(args: tuple[str, ...], place: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*args, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "pagebench: cannot write to standard output: No space left on device\n"


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in half a minute")


def test_an_interrupt_keeps_what_was_measured_and_resume_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    args = ("run", "-o", str(path), "--no-plots", *TINY[:-2], "--processes", "12", "--seed", "3")
    with subprocess.Popen(
        [sys.executable, "-m", "pagebench", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("pagebench: interrupted: what was measured is kept") and err.count("\n") == 1
    assert f"--resume {path}" in err
    first = result_file.read(path)
    assert 2 <= len(first.samples) < 12

    shown = run("show", str(path))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{len(first.samples)} of 12 samplings (groups in processes) are finished" in " ".join(
        shown.stdout.split()
    )

    with path.open("ab") as file:  # as if it had been killed in the middle of a line
        file.write(b'{"kind":"sampling","process":')
    resumed = run("run", "--resume", str(path), "--no-plots")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    run_ = result_file.read(path)
    assert run_.done == {(process, 0) for process in range(12)} and len(run_.samples) == 12
    assert [samples.sampling for samples in run_.samples[: len(first.samples)]] == [
        samples.sampling for samples in first.samples
    ]
    assert "are finished" not in resumed.stdout

    once_more = run("run", "--resume", str(path), "--no-plots")
    assert once_more.stdout == resumed.stdout and len(result_file.read(path).samples) == 12


def test_an_interrupt_before_anything_is_finished(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupt)
    assert cli.main(("run", "-o", "new.jsonl", *TINY)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert result_file.read(Path("new.jsonl")).samples == ()  # and --resume goes on from there
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert cli.main(("run", "--resume", "new.jsonl", "--no-plots")) == 0
    assert len(result_file.read(Path("new.jsonl")).samples) == 2

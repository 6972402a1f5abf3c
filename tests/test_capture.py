"""The report on folios: text, JSON, and what the command does."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from planted_captures import HERE, aligned, capture_of

from pagebench import capturing, cli, tool
from pagebench.errors import PagebenchError
from pagebench.host import captures, memory_counts
from pagebench.host.captures import KINDS, Capture
from pagebench.host.memory_counts import MemoryCounts
from pagebench.report import WIDTH, capture
from pagebench.report.capture import Captured
from pagebench.results import census

RUNS = [("anon", 0, 8), ("buddy", 0, 8), ("slab", 3, 2), ("nopage", 0, 480), ("hugetlb", 9, 32)]
TEXT = """\
folios of x86_64, 4K pages, struct pages of 64 bytes: 16896 pfns from 0 on
(66M)

kind          folios       pages    share  orders
hugetlb           32       16384   99.8 %  9
anon               8           8   <0.1 %  0
slab               2          16    0.1 %  3
buddy              8           8   <0.1 %  0
nopage           480         480        -  0

order     folios       pages    share  folios by kind
    0         16          16    0.1 %  anon 8, buddy 8
    3          2          16    0.1 %  slab 2
    9         32       16384   99.8 %  hugetlb 32

tails           16366 of 16416 pages (99.7 %); 99.7 % of those that are not
                free
memmap          130K after what HVO gave back
nr_memmap_pages 98080 with those of boot (383.1M), by /proc/vmstat
pools           32 of order 9, ? of order 18, of the whole machine; 32
                folios seen here
HVO             on; 224 fake heads, for each a page given back (896K)
HVO can save    224 pages (896K) of these 32 hugetlb folios with v5.17 ...
                v7.0: all of a memmap but its first page
                223 pages (892K) since v7.1: as much, less a shared page of
                tails for each order
process         3 pages mapped, and 1 outside of it all
unsure          32 hugetlb folios may be parts of larger ones: both are
                optimized, and fake heads do not tell which
torn            2 pages of folios that changed while they were read
"""
COUNTS = MemoryCounts(
    {"anon": 20, "slab": 10, "buddy": 100}, {0: 11, 1: 20}, {9: 32, 18: 0}, {4: 5, 9: 2}, 98080
)
WITHOUT_ROOT = """\
what can be seen without root

kind            pages  share of these
anon               20          15.4 %
slab               10           7.7 %
buddy             100          76.9 %

free blocks     by order, 0: 11, 1: 20
anon folios     by order, 4: 5, 9: 2 (mTHP; base pages apart)
pools           32 of order 9, 0 of order 18
nr_memmap_pages 98080 with those of boot (383.1M), by /proc/vmstat
HVO can save    224 pages (896K) of the pools' 32 pages with v5.17 ...
                v7.0: all of a memmap but its first page
                223 pages (892K) since v7.1: as much, less a shared page of
                tails for each order

/proc/kpageflags is not for you
As root: each folio's kind and order, the share of tails, what HVO really
gave back (fake heads), and a file of it all (`capture -o FILE`).
"""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Capture:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    plain = capture_of(RUNS, pools={9: 32, 18: None}, hvo="on", fake_heads=224, unsure=32, torn=2)
    return captures.with_process(plain, np.array([0, 1, 600, 99999]))


def test_the_report_of_a_capture(made: Capture) -> None:
    assert capture.render(Captured(tool.identity(), census.take(made), COUNTS)) == TEXT


def test_the_report_without_root() -> None:
    seen = Captured(tool.identity(), None, COUNTS, "/proc/kpageflags is not for you")
    assert capture.render(seen) == WITHOUT_ROOT


@given(
    first=st.integers(0, 1 << 44),
    folios=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 12)), min_size=1, max_size=60),
    numbers=st.tuples(*[st.integers(0, 1 << 50)] * 3),
)
def test_any_report_is_75_columns_of_ascii_and_json(
    first: int, folios: list[tuple[str, int]], numbers: tuple[int, int, int]
) -> None:
    fake_heads, unsure, torn = numbers
    made = capture_of(aligned(first, folios), first, fake_heads=fake_heads, unsure=unsure, torn=torn)
    for counts in (None, COUNTS, MemoryCounts({}, {}, {}, {}, None)):
        seen = Captured(tool.identity(), census.take(made), counts)
        text = capture.render(seen)
        assert text.isascii() and max(map(len, text.splitlines())) <= WIDTH
        json.loads(json.dumps(capture.to_json(seen)))
    text = capture.render(Captured(tool.identity(), None, MemoryCounts({}, {}, {}, {}, None), "why"))
    assert text.isascii() and max(map(len, text.splitlines())) <= WIDTH


def refused(*arguments: object, **named: object) -> Capture:
    raise PagebenchError("/proc/kpageflags is for root alone")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Capture) -> Path:
    """A directory to be in, and a machine that has what ``made`` says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(capturing, "capture", lambda window=None, pid=None: made)
    return tmp_path


def test_capturing_and_its_summary(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("capture", "-o", "c.gz")) == 0
    said = capsys.readouterr().out
    assert said.startswith("folios of x86_64") and "\ncapture: c.gz (5 runs, " in said
    assert stat.S_IMODE(Path("c.gz").stat().st_mode) == 0o600
    assert cli.main(("capture", "--summary", "c.gz")) == 0
    assert capsys.readouterr().out == "\n".join(said.splitlines()[:-2]) + "\n"
    assert cli.main(("capture", "--summary", "c.gz", "--format", "json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["census"]["saving"] == {"v5_17_bytes": 224 * 4096, "v7_1_bytes": 223 * 4096}
    assert found["counts"] is None
    assert cli.main(("capture", "--summary", "--format", "json")) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["free_blocks"]


def test_without_root_there_is_no_file_and_a_summary_of_what_there_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capturing, "capture", refused)
    monkeypatch.setattr(memory_counts, "describe", lambda: COUNTS)
    assert cli.main(("capture", "-o", "c")) == 2
    assert capsys.readouterr().err == "pagebench: /proc/kpageflags is for root alone\n"
    assert list(here.iterdir()) == []
    assert cli.main(("capture", "--summary")) == 0
    said = capsys.readouterr().out
    assert said == WITHOUT_ROOT.replace("is not for you", "is for root alone")


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing asked": ((), "name a file to capture to, `-o FILE`, or ask for `--summary`"),
    "both": (("-o", "c", "--summary"), "one of both"),
    "window": (("-o", "c", "--window", "5"), "'5' is not of the form PFN,COUNT"),
    "window of nothing": (("-o", "c", "--window", "5,0"), "'5,0' is not of the form PFN,COUNT"),
    "window beyond reason": (("-o", "c", "--window", "9" * 30 + ",1"), "no machine has a pfn 9"),
    "window too long": (("-o", "c", "--window", "1," + "9" * 30), "is not of the form"),
    "window negative": (("-o", "c", "--window", "-1,5"), "expected one argument|is not of the form"),
    "pid": (("-o", "c", "--pid", "0"), "0 is too small: give 1 or more"),
    "pid of a file": (("--summary", "good", "--pid", "1"), "leave them out beside --summary"),
    "window of a file": (("--summary", "good", "--window", "1,1"), "leave them out beside --summary"),
    "exists": (("-o", "good"), "good exists: name another file with -o"),
    "directory": (("-o", "."), "exists: name another file with -o"),
    "nowhere": (("-o", "none/c"), "none is not a directory"),
    "missing": (("--summary", "none"), "cannot read none: No such file"),
    "format": (("--summary", "good", "--format", "yaml"), "invalid choice: 'yaml'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, why = BAD[case]
    Path("good").write_text("")
    assert cli.main(("capture", *args)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert re.search(why, err), err
    assert [path.name for path in here.iterdir()] == ["good"]


@pytest.fixture
def x86(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return lambda name: str(HERE / f"{name}.folios.gz")


def test_the_summary_of_real_ones(x86: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for name in ("hvo-on", "hvo-off"):
        assert cli.main(("capture", "--summary", x86(name))) == 0
        reports.append(capsys.readouterr().out)
    assert "on; 7 fake heads, for each a page given back (28K)" in reports[0]
    assert "off; no fake heads" in reports[1]


@pytest.mark.skipif(not os.access("/proc/kpageflags", os.R_OK), reason="page flags are for root")
@pytest.mark.slow
def test_a_process_of_its_own(tmp_path: Path) -> None:
    done = run("capture", "-o", "c.gz", "--window", "0,100000", "--pid", str(os.getpid()), cwd=tmp_path)
    if "hides pfns" in done.stderr:
        pytest.skip("pfns are shown with CAP_SYS_ADMIN alone")
    assert (done.returncode, done.stderr) == (0, "")
    assert captures.read(tmp_path / "c.gz").process

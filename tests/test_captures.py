"""Files of captures: what is written is read again, and nothing else is read."""

from __future__ import annotations

import gzip
import os
import platform
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_captures import HERE, aligned, capture_of, named

from pagebench.errors import PagebenchError
from pagebench.host import captures
from pagebench.host.captures import ABSENT, KINDS, Capture

SMALL = [("anon", 0, 4), ("large", 2, 1), ("hugetlb", 3, 1), ("nopage", 0, 3), ("slab", 0, 1)]
TEXT = f"""\
pagebench-folios 1 {platform.machine()} page 4096 struct-page 64 first 8 pfns 20 pools 3:1 hvo on \
fake-heads 0 unsure 0 torn 0 process 5 outside 1
anon 0 4
large 2 1
hugetlb 3 1
nopage 0 3
slab 0 1
at 1 0 4
at 5 7 1
"""


@pytest.fixture
def small() -> Capture:
    plain = capture_of(SMALL, 8, pools={3: 1}, hvo="on")
    return captures.with_process(plain, np.array([9, 10, 11, 12, 23, 24]))


def test_the_form_of_a_file(small: Capture, tmp_path: Path) -> None:
    size = captures.write(small, tmp_path / "c")
    assert (tmp_path / "c").read_text() == TEXT
    assert size == len(TEXT)
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o600


kinds_and_orders = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 9)), min_size=1, max_size=40)


@given(
    first=st.integers(0, 1 << 40),
    folios=kinds_and_orders,
    pools=st.dictionaries(st.integers(0, 22), st.none() | st.integers(0, 1 << 40), max_size=3),
    numbers=st.tuples(*[st.integers(0, 1 << 50)] * 3),
    hvo=st.sampled_from(["on", "off", "unknown"]),
    packed=st.booleans(),
    data=st.data(),
)
def test_what_is_written_is_read(
    first: int,
    folios: list[tuple[str, int]],
    pools: dict[int, int | None],
    numbers: tuple[int, int, int],
    hvo: str,
    packed: bool,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fake_heads, unsure, torn = numbers
    capture = capture_of(
        aligned(first, folios),
        first,
        pools=pools,
        hvo=hvo,
        fake_heads=fake_heads,
        unsure=unsure,
        torn=torn,
    )
    drawn = data.draw(st.none() | st.lists(st.integers(first, first + capture.pfns + 2), max_size=20))
    if drawn is not None:
        capture = captures.with_process(capture, np.array(drawn, np.int64))
    path = tmp_path_factory.mktemp("c") / ("c.gz" if packed else "c")
    captures.write(capture, path)
    again = captures.read(path)
    assert list(captures._lines(again)) == list(captures._lines(capture))
    assert (again.first, named(again.runs), again.pools) == (first, named(capture.runs), pools)
    if drawn is None:
        assert again.process is None
    else:
        absent = np.repeat(capture.is_kind(*ABSENT), capture.run_pages)
        inside = [pfn for pfn in drawn if pfn < first + capture.pfns and not absent[pfn - first]]
        assert again.mapped_pfns().tolist() == inside
        assert again.process and again.process.outside == len(drawn) - len(inside)


def test_a_file_that_is_there_is_kept(small: Capture, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("mine")
    for refuse in (lambda: captures.write(small, tmp_path / "c"), lambda: captures.check_new(tmp_path / "c")):
        with pytest.raises(PagebenchError, match="c exists: name another file with -o"):
            refuse()
    assert (tmp_path / "c").read_text() == "mine"
    with pytest.raises(PagebenchError, match="none is not a directory"):
        captures.check_new(tmp_path / "none" / "c")
    with pytest.raises(PagebenchError, match=r"cannot write .*: No such file"):
        captures.write(small, tmp_path / "none" / "c")


def test_a_full_disk_leaves_no_file(small: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = os.fdopen

    def full(descriptor: int, mode: str) -> object:
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        return real(descriptor, mode)

    monkeypatch.setattr(captures.os, "fdopen", full)
    with pytest.raises(PagebenchError, match=r"cannot write .*: No space left on device"):
        captures.write(small, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(0, len(TEXT) - 1))
def test_a_file_that_was_cut_anywhere_is_refused(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("c") / "c"
    path.write_text(TEXT[:cut])
    with pytest.raises(PagebenchError, match=r"was cut off|is damaged"):
        captures.read(path)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_packed_file_that_was_cut_is_refused(cut: int, tmp_path: Path) -> None:
    (tmp_path / "c.gz").write_bytes(gzip.compress(TEXT.encode())[:-cut])
    with pytest.raises(PagebenchError, match=r"is damaged or was cut off|was cut off in its header"):
        captures.read(tmp_path / "c.gz")


DAMAGE: dict[str, tuple[str, str, str]] = {
    "foreign": ("pagebench-folios", "pid,ns", "is no capture of folios"),
    "nearly": ("pagebench-folios", "pagebench-folium", "is no capture of folios|line 1 is damaged"),
    "version": ("folios 1 ", "folios 2 ", "has version 2, this pagebench reads 1"),
    "header": ("struct-page", "struct-pages", "line 1 is damaged: it is no header of version 1"),
    "architecture": (f" {platform.machine()} ", " riscv64 ", "is of riscv64, and this machine is"),
    "pages": ("page 4096", "page 65536", "is of 64K pages: memmaps here are of 4K ones"),
    "struct pages": ("struct-page 64", "struct-page 60", "no struct page has 60 bytes"),
    "no pages": ("pfns 20", "pfns 0", "no machine has 0 pfns"),
    "pages beyond reason": ("pfns 20", "pfns 99999999999999999", "no machine has 99999999999999999 pfns"),
    "first beyond reason": ("first 8", "first 999999999999999999", "no machine has"),
    "number beyond reason": ("pfns 20", "pfns " + "9" * 40, "line 1 is damaged"),
    "pool": ("pools 3:1", "pools 23:1", "there are no such pools: 23:1"),
    "pool twice": ("pools 3:1", "pools 3:1,3:2", "there are no such pools"),
    "hvo": ("hvo on", "hvo maybe", "line 1 is damaged"),
    "kind": ("slab", "slob", "line 6 is damaged: it is no run"),
    "no count": ("large 2 1", "large 2", "line 3 is damaged"),
    "zero": ("large 2 1", "large 2 0", "line 3 is damaged"),
    "negative": ("large 2 1", "large 2 -1", "line 3 is damaged"),
    "leading zero": ("large 2 1", "large 02 1", "line 3 is damaged"),
    "order": ("large 2 1", "large 23 1", "line 3: orders go from 0 to 22"),
    "alignment": ("large 2 1\nhugetlb 3 1", "hugetlb 3 1\nlarge 2 1", "order 3 cannot begin at pfn 12"),
    "too many": ("slab 0 1", "slab 0 2", "line 6: more pfns than the 20 of the header"),
    "count beyond reason": ("slab 0 1", "slab 0 999999999999999999", "line 6: more pfns than"),
    "too few": ("nopage 0 3\n", "nopage 0 2\n", "line 7 is damaged: it is no run|was cut off"),
    "carriage returns": ("\n", "\r\n", "line 1 is damaged"),
    "folio": ("at 5 7 1", "at 99 7 1", "line 8: more than the 10 folios"),
    "page": ("at 5 7 1", "at 5 8 1", "a page is mapped that is in no folio"),
    "stretch": ("at 1 0 4\nat 5 7 1", "at 9 0 5", "a page is mapped that is in no folio"),
    "mapped": ("process 5", "process 6", "was cut off: it has 5 of 6 mapped pages"),
    "mapped more": ("process 5", "process 4", "line 8: more than the 10 folios or 4 mapped pages"),
    "no process": (" process 5 outside 1", "", "line 7: more than the 20 pfns"),
    "bytes": ("slab", "sl\xe4b", "not all ASCII"),
    "long line": ("slab 0 1", "slab 0 1" + " " * 100_000, "line 6 is damaged"),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_one_line(case: str, packed: bool, tmp_path: Path) -> None:
    old, new, why = DAMAGE[case]
    assert old in TEXT
    data = TEXT.replace(old, new).encode("latin-1")
    (tmp_path / "c").write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(PagebenchError, match=why) as raised:
        captures.read(tmp_path / "c")
    assert "\n" not in str(raised.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in {
        tmp_path / "fifo": "is no regular file",
        tmp_path: "cannot read .*: Is a directory",
        Path("/dev/zero"): "is no regular file",
        tmp_path / "none": "cannot read .*: No such file",
        Path("/proc/self/mem"): "cannot read /proc/self/mem",
    }.items():
        with pytest.raises(PagebenchError, match=why):
            captures.read(path)


def test_what_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MAX_TEXT_BYTES", 1 << 20)
    (tmp_path / "c").write_bytes(gzip.compress(TEXT.encode() + b" " * (2 << 20)))
    with pytest.raises(PagebenchError, match="unpacks to more than 1M"):
        captures.read(tmp_path / "c")


@pytest.mark.parametrize("flip", range(0, 400, 7))
def test_a_byte_that_changed_is_found_or_harmless(flip: int, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(TEXT.encode(), mtime=0))
    data[flip % len(data)] ^= 0x55
    (tmp_path / "c").write_bytes(data)
    try:
        read = captures.read(tmp_path / "c")
    except PagebenchError as error:
        assert re.search("damaged|cut off|cannot read|is no capture", str(error))
    else:  # gzip's own header has fields that say nothing
        assert "\n".join([*captures._lines(read), ""]) == TEXT


@pytest.mark.parametrize("name", ["hvo-on", "hvo-off"])
def test_real_ones_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    capture = captures.read(HERE / f"{name}.folios.gz")
    assert capture.pfns == 32768
    assert {"hugetlb", "large", "slab"} <= {kind for kind, _, _ in named(capture.runs)}
    assert capture.fake_heads == (7 if name == "hvo-on" else 0)
    assert (capture.unsure, capture.torn, capture.pools[9]) == (0, 0, 64)


def test_a_real_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    capture = captures.read(HERE / "process.folios.gz")
    assert capture.process and (capture.process.pages, capture.process.outside) == (68, 8348)
    pfns = capture.mapped_pfns()
    again = captures.with_process(capture, pfns)
    assert again.process and again.process.stretches.tolist() == capture.process.stretches.tolist()


def test_without_a_process_nothing_is_mapped() -> None:
    with pytest.raises(PagebenchError, match="the capture has no process in it"):
        capture_of(SMALL, 8).mapped_pfns()

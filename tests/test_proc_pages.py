"""Page flags and page maps, as they are read."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from planted import plant

from pagebench.errors import PagebenchError
from pagebench.host import proc_pages

PAGE = mmap.PAGESIZE


def words(*values: int) -> bytes:
    return np.array(values, np.uint64).tobytes()


def all_of(first: int, count: int | None, root: Path) -> list[int]:
    return [int(word) for chunk in proc_pages.page_flags(first, count, root) for word in chunk]


def test_reads_are_of_whole_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc_pages, "CHUNK", 16)
    root = plant(tmp_path, {"proc/kpageflags": words(*range(7))})
    assert all_of(0, None, root) == list(range(7))
    assert all_of(2, 3, root) == [2, 3, 4]
    assert all_of(5, 100, root) == [5, 6]
    assert all_of(7, 1, root) == all_of(0, 0, root) == []


def test_no_page_flags(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="cannot read /proc/kpageflags: No such file"):
        all_of(0, None, tmp_path)


@pytest.mark.skipif(os.access("/proc/kpageflags", os.R_OK), reason="root may read them")
def test_page_flags_without_root() -> None:
    with pytest.raises(PagebenchError, match=r"for root alone: capture as root .`capture --summary`"):
        all_of(0, None, Path("/"))


def test_refusal_says_what_root_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(proc_pages.os, "open", refuse)
    with pytest.raises(PagebenchError, match="is for root alone"):
        all_of(0, None, Path("/"))
    with pytest.raises(PagebenchError, match="cannot read what process 7 has mapped: Permission denied"):
        proc_pages.mapped_pfns(7)


def area(first: int, last: int, **sizes: int) -> str:
    body = "".join(f"{key}: {value * PAGE >> 10} kB\n" for key, value in sizes.items())
    return f"{first * PAGE:x}-{last * PAGE:x} rw-p 00000000 00:00 0 \n{body}VmFlags: rd wr\n"


PRESENT = 1 << 63


def process(tmp_path: Path, smaps: str, pagemap: bytes) -> Path:
    return plant(tmp_path, {"proc/7/smaps": smaps, "proc/7/pagemap": pagemap})


def test_present_pages_by_address(tmp_path: Path) -> None:
    maps = area(1, 4, Rss=2) + area(4, 6, Rss=0) + area(6, 8, Rss=0, Private_Hugetlb=2)
    entries = words(0, PRESENT | 50, 1 << 62 | 9, PRESENT | 1 << 61 | 40, 0, 0, PRESENT | 512, PRESENT | 513)
    assert proc_pages.mapped_pfns(7, process(tmp_path, maps, entries)).tolist() == [50, 40, 512, 513]


def test_a_mapping_is_read_as_far_as_it_has_pages(tmp_path: Path) -> None:
    """Terabytes of address space are no reason to read so much."""
    endless = area(0, 1 << 40, Rss=1)
    assert proc_pages.mapped_pfns(7, process(tmp_path, endless, words(0, PRESENT | 3))).tolist() == [3]


def test_hidden_pfns_are_said(tmp_path: Path) -> None:
    root = process(tmp_path, area(0, 2, Rss=2), words(PRESENT, PRESENT))
    with pytest.raises(PagebenchError, match="hides pfns: every one reads 0 without CAP_SYS_ADMIN"):
        proc_pages.mapped_pfns(7, root)


def test_no_process_and_none_that_has_anything(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="there is no process 7"):
        proc_pages.mapped_pfns(7, tmp_path)
    with pytest.raises(PagebenchError, match="process 7 has nothing mapped"):
        proc_pages.mapped_pfns(7, process(tmp_path, "", b""))


def test_our_own_pages() -> None:
    try:
        pfns = proc_pages.mapped_pfns(os.getpid())
    except PagebenchError as error:
        assert "hides pfns" in str(error)
        pytest.skip("pfns are shown with CAP_SYS_ADMIN alone")
    assert len(pfns) > 500 and pfns.min() >= 0


def test_own_frames(tmp_path: Path) -> None:
    present = 1 << 63
    root = plant(tmp_path, {"proc/self/pagemap": words(*(present | n for n in (7, 9, 8)), present)})
    assert proc_pages.own_frames(0, 3, root).tolist() == [7, 9, 8]
    assert proc_pages.own_frames(PAGE, 2, root).tolist() == [9, 8]
    for first, count in ((3, 1), (2, 5)):  # hidden, and not there
        with pytest.raises(PagebenchError, match="--pagemap is for root alone"):
            proc_pages.own_frames(first * PAGE, count, root)


def test_own_frames_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="cannot read /proc/self/pagemap"):
        proc_pages.own_frames(0, 1, tmp_path)

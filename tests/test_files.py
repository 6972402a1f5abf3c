"""Linux's own files: one that is not there says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import plant

from pagebench.host import files


def test_a_text_comes_without_the_space_around_it(tmp_path: Path) -> None:
    plant(tmp_path, {"governor": " performance\n", "model": "Raspberry Pi\0", "odd": b"caf\xe9\n"})
    assert files.read(tmp_path / "governor") == "performance"
    assert files.read(tmp_path / "model") == "Raspberry Pi"
    assert files.read(tmp_path / "odd") == "caf\N{REPLACEMENT CHARACTER}"


def test_what_is_absent_unreadable_or_empty_is_none(tmp_path: Path) -> None:
    plant(tmp_path, {"empty": "\n"})
    assert [files.read(tmp_path / name) for name in ("none", ".", "empty", "empty/below")] == [None] * 4


def test_of_fields_the_last_counts() -> None:
    text = "processor\t: 0\nmodel name : A: B\nno field\nprocessor: 1\n"
    assert files.fields(text) == {"processor": "1", "model name": "A: B"}
    assert files.fields("btime 12\n", " ") == {"btime": "12"}
    assert files.fields(None) == {}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("48K", 48 << 10),
        ("24684092 kB", 24684092 << 10),
        ("64", 64),
        ("2M", 2 << 20),
        ("1G", 1 << 30),
        ("2 MB", 2 << 20),
        ("many", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_sizes(text: str | None, size: int | None) -> None:
    assert files.size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("10-11", {10, 11}), ("", set()), (None, set())],
)
def test_lists_of_cpus(text: str | None, cpus: set[int]) -> None:
    assert files.cpu_list(text) == cpus

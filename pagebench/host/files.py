"""Linux's own files, as they are read: one that is not there says nothing, and is no error."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")


def read(path: Path) -> str | None:
    """A file's text without the white space around it; None if absent, unreadable or empty."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None


def fields(text: str | None, separator: str = ":") -> dict[str, str]:
    """``key : value`` lines; of a repeated key the last."""
    lines = (line.partition(separator) for line in (text or "").splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def size_bytes(text: str | None) -> int | None:
    """``48K``, ``24684092 kB`` or a plain number, in bytes."""
    match = re.fullmatch(r"(\d+) ?([kKMG]?)B?", text or "")
    return int(match[1]) << {"": 0, "k": 10, "K": 10, "M": 20, "G": 30}[match[2]] if match else None


def cpu_list(text: str | None) -> set[int]:
    """The kernel's ``0-3,8``."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text or "")
    return {cpu for first, last in ranges for cpu in range(int(first), int(last or first) + 1)}

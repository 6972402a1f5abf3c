"""Pagebench as it is typed: a run of some milliseconds, and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import summaries

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


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file and directory below ``root``: what is in it."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }

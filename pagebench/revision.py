"""The commit of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path


def describe(root: Path) -> str:
    """The commit at ``root``, with a + where the tree differs from it; empty if that is no checkout.

    For build.py too, so it imports nothing outside the standard library.
    """
    if not (root / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()

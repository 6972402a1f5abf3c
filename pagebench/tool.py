"""Which pagebench this is.  build.py asks too, so it imports nothing outside the standard library."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pagebench import __version__

ROOT = Path(__file__).resolve().parent.parent


def checkout_commit(root: Path = ROOT) -> str:
    """The commit at ``root``, with a + where the tree differs from it; empty if that is no checkout."""
    if not (root / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def commit() -> str:
    """The checkout's commit where this is one, else the one the core was built from."""
    from pagebench import core  # a core that is not built yet asks for its checkout

    return checkout_commit() or core.built_commit()


def identity() -> dict[str, str]:
    """Name, version and commit, for result files."""
    return {"name": "pagebench", "version": __version__, "commit": commit()}

"""Which pagebench this is."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pagebench import __version__, core


def commit() -> str:
    """The checkout's commit where this is one, else the one the core was built from."""
    root = Path(__file__).resolve().parent.parent
    if (root / ".git").exists():
        try:
            done = subprocess.run(
                ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
                cwd=root,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            return core.built_commit()
        if done.returncode == 0:
            return done.stdout.strip()
    return core.built_commit()


def identity() -> dict[str, str]:
    """Name, version and commit, for result files."""
    return {"name": "pagebench", "version": __version__, "commit": commit()}

"""Which pagebench this is."""

from __future__ import annotations

from pathlib import Path

from pagebench import __version__, core, revision


def commit() -> str:
    """The checkout's commit where this is one, else the one the core was built from."""
    return revision.describe(Path(__file__).resolve().parent.parent) or core.built_commit()


def identity() -> dict[str, str]:
    """Name, version and commit, for result files."""
    return {"name": "pagebench", "version": __version__, "commit": commit()}

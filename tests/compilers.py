"""Compilers that tests ask for by name: here, and able to compile for their target, or skipped."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import pytest


def skip_without(cc: Sequence[str], packages: str, run_by: Sequence[str] = ()) -> None:
    """Skip where a compiler, its target's C library headers, or what runs its programs is not here.

    ``packages``: what Debian calls all of them.
    """
    for program in (cc[0], *run_by[:1]):
        if not shutil.which(program):
            pytest.skip(f"no {program} here: apt-get install {packages}")
    done = subprocess.run(
        [*cc, "-x", "c", "-fsyntax-only", "-"],
        input="#include <stdio.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{' '.join(cc)} has no C library's headers here: apt-get install {packages}")

"""Where commands write: standard output, and plots beside it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from pagebench.errors import PagebenchError
from pagebench.report.formats import FIGURES


def write(text: str) -> None:
    """To standard output, which someone may have closed, as in ``| head``."""
    if sys.stdout is None:
        raise PagebenchError("standard output is closed: nothing can be said there")
    encoding = sys.stdout.encoding or "ascii"
    text = (text if text.endswith("\n") else text + "\n").encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise PagebenchError(f"cannot write to standard output: {error.strerror}") from error


def write_whole(path: Path, content: bytes, source: Path) -> None:
    """A file that appears whole or not at all, in place of one of its name, but not of its ``source``.

    Raises PagebenchError.
    """
    try:
        if path.exists() and path.samefile(source):
            raise PagebenchError(f"{path} is the result file itself: name another file with -o")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(content)  # a pipe or a device
            return
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as scratch:
            partial = Path(scratch, path.name)
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise PagebenchError(f"cannot write {path}: {error.strerror}; name another file with -o") from error


PLOT_ELSEWHERE = "`plot -o DIR`"


def save_plots(subject: str, content: Any, directory: Path, stem: str, elsewhere: str) -> list[Path]:
    """Plots of a subject into a directory.  Raises PagebenchError that says how to name another."""
    try:
        return FIGURES[subject](content, directory, stem)
    except OSError as error:
        raise PagebenchError(
            f"cannot write plots to {directory}: {error.strerror}; name another with {elsewhere}"
        ) from error


def say_plots(written: Sequence[Path], stream: TextIO) -> None:
    """Which plots there are."""
    if not written:
        print("plot: nothing to draw of so few cells", file=stream)
    for file in written:
        if file.suffix == ".png":
            print(f"plot: {file} (and .svg)", file=stream)

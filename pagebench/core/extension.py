"""The extension: loaded here and nowhere else, with what turns C's values into Python's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pagebench.errors import PagebenchError

try:
    import pagebench._core
    from pagebench._core import ffi as _ffi
    from pagebench._core import lib as _lib
except ImportError as _error:
    raise PagebenchError(
        "this copy of pagebench has no compiled core: install it with `pip install -e .` at its root, "
        f"or leave that directory ({_error})"
    ) from _error

ffi: Any = _ffi
lib: Any = _lib
FILE = Path(pagebench._core.__file__)


def address(cdata: Any) -> int:
    """Where a C object is, or where a pointer points."""
    return int(ffi.cast("uintptr_t", cdata))


def pointer(at: int) -> Any:
    """A ``void *``."""
    return ffi.cast("void *", at)


def string(cdata: Any) -> str:
    """A C string's text."""
    return str(ffi.string(cdata).decode())


def array(ctype: str, values: npt.NDArray[Any]) -> Any:
    """An array as C takes it, for as long as it lives."""
    return ffi.from_buffer(ctype, values)


def check(result: int, doing: str) -> None:
    """Turn a -errno into an OSError that says what was being done."""
    if result:
        raise OSError(-result, f"{doing}: {os.strerror(-result)}")

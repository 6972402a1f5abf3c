"""Compiled objects in a cache directory, under a digest of all that shapes them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pagebench import architecture
from pagebench.errors import PagebenchError
from pagebench.variants import compiler

# What a compilation leaves in its scratch directory; SOURCES is a directory: what an object was made of, for
# those who want to see it elsewhere.
OBJECT, LOG, SOURCES = "variants.so", "log", "sources"


def sources_digest() -> bytes:
    """A digest of the C core's sources and of the modules that compile them, the flags among them."""
    digest = hashlib.sha256()
    ours = [path for path in compiler.sources().rglob("*.[ch]") if path.parent.name != "kmod"]
    for path in sorted([*ours, *Path(__file__).parent.rglob("*.py"), Path(architecture.__file__)]):
        digest.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def cached_object(stem: str, inputs: Iterable[bytes], make: Callable[[Path], None]) -> Path:
    """The shared object that ``make`` makes of the inputs, from the cache where they are the same.

    ``make`` gets an empty directory to leave ``OBJECT`` and ``LOG`` in.  Raises PagebenchError with the place
    of the log where ``make`` raises CompilerError, and where nothing can be written.
    """
    digest = hashlib.sha256()
    for part in inputs:
        digest.update(len(part).to_bytes(8, "little") + part)
    place = directory()
    name = f"{stem}-{digest.hexdigest()[:16]}"
    finished, log = place / f"{name}.so", place / f"{name}.log"
    if finished.exists():
        return finished
    try:
        with tempfile.TemporaryDirectory(prefix=f"{stem}-", dir=place) as scratch:
            try:
                make(Path(scratch))
            finally:
                with suppress(FileNotFoundError):
                    Path(scratch, LOG).replace(log)
            kept = Path(scratch, SOURCES)
            if kept.is_dir():
                beside = sources_of(finished)
                shutil.rmtree(beside, ignore_errors=True)
                kept.replace(beside)
            Path(scratch, OBJECT).replace(finished)
    except compiler.CompilerError as error:
        where = f"; all it said: {log}" if log.exists() else ""
        raise PagebenchError(f"{error}{where}") from error
    except OSError as error:
        raise PagebenchError(f"cannot write what was compiled to {place}: {error.strerror}") from error
    return finished


def put(stem: str, content: bytes) -> Path:
    """A shared object that was compiled elsewhere, into the cache under a digest of its content."""
    finished = directory() / f"{stem}-{hashlib.sha256(content).hexdigest()[:32]}.so"
    try:
        if not finished.exists() or finished.read_bytes() != content:
            with tempfile.TemporaryDirectory(prefix=f"{stem}-", dir=finished.parent) as scratch:
                partial = Path(scratch, OBJECT)
                partial.write_bytes(content)
                partial.replace(finished)
    except OSError as error:
        raise PagebenchError(f"cannot write to {finished.parent}: {error.strerror}") from error
    return finished


def sources_of(path: Path) -> Path:
    """Where the sources of an object in the cache are: a directory, not there if nothing was kept."""
    return path.with_suffix(f".{SOURCES}")


def directory() -> Path:
    """Where compiled variants are kept: under $XDG_CACHE_HOME or ~/.cache.

    Where nothing can be written or run from there, a directory under $TMPDIR that nobody else may write to,
    since what is found in it is run.  Raises PagebenchError where that cannot be had either.
    """
    with suppress(OSError, RuntimeError):
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        place = (home if home.is_absolute() else Path.home() / ".cache") / "pagebench"
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK | os.X_OK) and not os.statvfs(place).f_flag & os.ST_NOEXEC:
            return place
    place = Path(tempfile.gettempdir()).absolute() / f"pagebench-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError as error:
        raise PagebenchError(f"cannot write to {place}: {error.strerror}; set XDG_CACHE_HOME") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PagebenchError(f"{place} is not this user's alone: remove it or set XDG_CACHE_HOME")
    return place

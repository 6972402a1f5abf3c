"""Result files: the only reader and writer.

JSON lines, append-only: a header, then one line per finished sampling (a group in a process) with its raw
samples.  What a report says is computed from this file alone.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.plan.groups import Levels, Plan
from pagebench.results.lines import (
    KIND,
    SCHEMA,
    Calibration,
    Header,
    Recalibration,
    Sampling,
    check_fits,
    check_printable,
    check_roles,
    check_variants,
)
from pagebench.results.simulated import Simulated
from pagebench.results.simulated import check_fits as check_simulated
from pagebench.results.statistics import median

# Where the clock changed by more than this around a sample, it is not valid.
SAME_CLOCK = 0.01


@dataclass(frozen=True, slots=True)
class Samples:
    """A sampling's numbers, converted.

    ``ns`` and ``ghz`` are float64 arrays (cells, rounds): ns per lookup, and
    the core clock around the sample; ``valid`` (cells, rounds) is False where
    the clock changed by more than 1 % or a context switch fell into the batch.
    """

    sampling: Sampling
    ns: npt.NDArray[np.float64]
    ghz: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]

    @property
    def key(self) -> tuple[int, int]:
        """Process and group."""
        return self.sampling.process, self.sampling.group


@dataclass(frozen=True)
class Run:
    """A result file as read: header and finished samplings."""

    path: Path
    header: Header
    samples: tuple[Samples, ...] = field(repr=False)
    # Bytes up to the end of the last whole line: where a resumed run goes on.
    whole_bytes: int
    # The L3 at the end, where it was measured at the beginning.
    recalibration: Calibration | None = None
    # What simulated caches make of its loops.
    simulated: Simulated | None = None

    @property
    def plan(self) -> Plan:
        """What was to be measured."""
        return self.header.plan

    @cached_property
    def levels_at_end(self) -> Levels:
        """The cache levels as they were when the run ended, where that is known."""
        levels, again = self.plan.levels, self.recalibration
        return levels if again is None else dataclasses.replace(levels, l3_bytes=again.l3_measured_bytes)

    @cached_property
    def core_ghz(self) -> npt.NDArray[np.float64]:
        """The median core clock of each sampling."""
        return np.array([median(samples.ghz) for samples in self.samples])

    @cached_property
    def median_ghz(self) -> float:
        """The median core clock of the run."""
        return median(self.core_ghz)

    @property
    def done(self) -> set[tuple[int, int]]:
        """The finished (process, group) pairs."""
        return {samples.key for samples in self.samples}


class Writer:
    """Appends lines to a result file, each on disk before the next is begun."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self._stream = stream

    @classmethod
    def create(cls, path: Path, header: Header) -> Writer:
        """A new file with its header.  Raises PagebenchError if there is one or none can be."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("xb")
        except FileExistsError:
            if path.is_dir():
                what = f"{path} is a directory: name a file with -o"
            elif path.exists():
                what = f"{path} exists: name another file with -o, or go on with --resume"
            else:
                what = f"{path.parent} is not a directory: name another file with -o"
            raise PagebenchError(what) from None
        except OSError as error:
            raise PagebenchError(
                f"cannot write {path}: {error.strerror}; name another file with -o"
            ) from error
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        writer = cls(path, stream)
        writer.append(header)
        return writer

    @classmethod
    def resume(cls, run: Run) -> Writer:
        """Go on with a file: a line that was cut short is dropped first."""
        try:
            stream = run.path.open("r+b")
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.truncate(run.whole_bytes)
            stream.seek(0, os.SEEK_END)
        except BlockingIOError as error:
            raise PagebenchError(f"{run.path} is being written by another run: wait for it") from error
        except OSError as error:
            raise PagebenchError(f"cannot go on with {run.path}: {error.strerror}") from error
        return cls(run.path, stream)

    def append(self, line: Header | Sampling | Recalibration | Simulated) -> None:
        """One line, flushed to disk."""
        try:
            self._stream.write(msgspec.json.encode(line) + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise PagebenchError(
                f"cannot write {self.path}: {error.strerror}; what was measured so far is kept"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _decode(line: bytes, plan: Plan) -> Samples | Recalibration | Simulated | None:
    """A line's content; None of a line of a later kind.  Raises ValueError for one that is damaged."""
    kind = msgspec.json.decode(line, type=_Kind).kind
    if kind == Sampling.__struct_config__.tag:
        return _samples(msgspec.json.decode(line, type=Sampling), plan)
    if kind == Recalibration.__struct_config__.tag:
        return msgspec.json.decode(line, type=Recalibration)
    if kind == Simulated.__struct_config__.tag:
        simulated = msgspec.json.decode(line, type=Simulated)
        check_printable(msgspec.to_builtins(simulated))
        check_simulated(simulated, plan)
        return simulated
    return None


def _samples(sampling: Sampling, plan: Plan) -> Samples:
    check_fits(sampling, plan)
    # (before and after, segment, rounds)
    chain = np.array(sampling.add_chain_ticks, np.float64)
    ghz = sampling.add_chain_cycles * sampling.ticks_per_ns / np.maximum(chain, 1)
    steady = np.abs(ghz[0] / ghz[1] - 1) <= SAME_CLOCK
    segment = np.array(sampling.segment)
    valid = steady[segment]
    for cell, round_ in sampling.switches:
        valid[cell, round_] = False
    ticks = np.array(sampling.ticks, np.float64)
    return Samples(
        sampling=sampling,
        ns=ticks / sampling.ticks_per_ns / np.array(sampling.lookups, np.float64),
        ghz=ghz.mean(axis=0)[segment],
        valid=valid,
    )


class _Kind(msgspec.Struct):
    kind: str = ""


def read(path: Path) -> Run:
    """Read a result file; a last line that was cut short is left out.

    Raises PagebenchError for files that are missing, foreign, newer, corrupt
    or cut before anything was finished.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise PagebenchError(f"{path} is no regular file: name a result file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PagebenchError(f"cannot read {path}: {error.strerror}") from error
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")[:-1]
    if not lines:
        beginning = b'{"kind":"' + KIND.encode()
        started = data[: len(beginning)] == beginning[: len(data)]
        what = "was cut off in its header: run again" if started else "is not a pagebench result file"
        raise PagebenchError(f"{path} {what}")
    header = _header(path, lines[0])
    samples: dict[tuple[int, int], Samples] = {}
    recalibration: Calibration | None = None
    simulated: Simulated | None = None
    for number, line in enumerate(lines[1:], 2):
        try:
            one = _decode(line, header.plan)
        except (ValueError, RecursionError) as error:
            raise PagebenchError(
                f"{path}: line {number} is damaged ({_why(error)}); delete it to read the rest"
            ) from error
        if isinstance(one, Recalibration):
            recalibration = one.calibration
        elif isinstance(one, Simulated):
            simulated = one
        elif one is not None:  # twice: a resumed run wrote it again
            samples.setdefault(one.key, one)
    return Run(path, header, tuple(samples.values()), whole, recalibration, simulated)


def _header(path: Path, line: bytes) -> Header:
    try:
        decoded = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict) or decoded.get("kind") != KIND:
        raise PagebenchError(f"{path} is not a pagebench result file")
    if decoded.get("schema") != SCHEMA:
        tool = decoded.get("tool")
        wrote = tool.get("version", "unknown") if isinstance(tool, dict) else "unknown"
        raise PagebenchError(
            f"{path} has schema {_word(decoded.get('schema'))}, this pagebench reads {SCHEMA}: "
            f"use the version that wrote it ({_word(wrote)})"
        )
    try:
        check_printable(decoded)
        header = msgspec.convert(decoded, Header)
        check_roles(header.plan)
        check_variants(header)
        return header
    except (ValueError, RecursionError) as error:
        raise PagebenchError(f"{path} has a damaged header ({_why(error)})") from error


def _word(value: Any) -> str:
    """A value of a foreign header, fit for a line."""
    return ascii(value)[:40].strip("'")


def _why(error: Exception) -> str:
    """A decoder's complaint in one line, its path without JSON's root."""
    return str(error).splitlines()[0].replace(" - at `$.", " at `") if str(error) else type(error).__name__

"""Result files: the only reader and writer.

JSON lines, append-only: a header, then one line per finished (process, group)
with its raw samples.  What a report says is computed from this file alone.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.plan.groups import Plan

SCHEMA = 1
KIND = "pagebench"


@dataclass(frozen=True, slots=True)
class Block:
    """One group in one process.

    ``ns`` and ``ghz`` are float64 arrays (cells, rounds): ns per lookup, and
    the core clock around the sample; ``valid`` (cells, rounds) is False where
    the clock changed by more than 1 % or a context switch fell into the batch.
    """

    process: int
    group: int
    ns: npt.NDArray[np.float64]
    ghz: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    line: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A result file as read: header, plan and finished blocks."""

    path: Path
    header: Mapping[str, Any]
    plan: Plan
    blocks: tuple[Block, ...] = field(repr=False)
    # Bytes up to the end of the last whole line: where a resumed run goes on.
    whole_bytes: int

    @property
    def done(self) -> set[tuple[int, int]]:
        """The finished (process, group) pairs."""
        return {(block.process, block.group) for block in self.blocks}


class Writer:
    """Appends lines to a result file, each on disk before the next is begun."""

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path = path
        self._stream = stream

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Writer:
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
        writer.append({"kind": KIND, "schema": SCHEMA, **header})
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

    def append(self, line: Mapping[str, Any]) -> None:
        """One line, flushed to disk."""
        try:
            self._stream.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise PagebenchError(
                f"cannot write {self.path}: {error.strerror}; what was measured so far is kept"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _block(line: Mapping[str, Any], plan: Plan) -> Block:
    group = plan.groups[line["group"]]
    ticks = np.array(line["ticks"], np.float64)
    lookups = np.array(line["lookups"], np.float64)
    if ticks.shape != (len(group.cells), len(lookups)) or not lookups.all() or line["ticks_per_ns"] <= 0:
        raise ValueError("samples do not match the plan")
    # (before and after, segment, rounds)
    core_ticks = np.array(line["core_ticks"], np.float64)
    ghz = line["core_cycles"] * line["ticks_per_ns"] / np.maximum(core_ticks, 1)
    steady = np.abs(ghz[0] / ghz[1] - 1) <= 0.01
    segment = np.array(line["segment"])
    valid = steady[segment]
    for cell, round_ in line["switches"]:
        valid[cell, round_] = False
    return Block(
        process=line["process"],
        group=line["group"],
        ns=ticks / line["ticks_per_ns"] / lookups,
        ghz=ghz.mean(axis=0)[segment],
        valid=valid,
        line={k: v for k, v in line.items() if k not in ("ticks", "lookups", "core_ticks")},
    )


def read(path: Path) -> Run:
    """Read a result file; a last line that was cut short is left out.

    Raises PagebenchError for files that are missing, foreign, newer, corrupt
    or cut before anything was finished.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PagebenchError(f"cannot read {path}: {error.strerror}") from error
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].splitlines()
    if not lines:
        beginning = b'{"kind":"' + KIND.encode()
        started = data[: len(beginning)] == beginning[: len(data)]
        what = "was cut off in its header: run again" if started else "is not a pagebench result file"
        raise PagebenchError(f"{path} {what}")
    header = _json(path, 1, lines[0])
    if header.get("kind") != KIND:
        raise PagebenchError(f"{path} is not a pagebench result file")
    if header.get("schema") != SCHEMA:
        tool = header.get("tool")
        wrote = tool.get("version", "unknown") if isinstance(tool, dict) else "unknown"
        raise PagebenchError(
            f"{path} has schema {header.get('schema')}, this pagebench reads {SCHEMA}: "
            f"use the version that wrote it ({wrote})"
        )
    try:
        plan = Plan.from_json(header["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise PagebenchError(f"{path} has a damaged header ({error})") from error
    blocks = []
    done: set[tuple[int, int]] = set()
    for number, text in enumerate(lines[1:], 2):
        line = _json(path, number, text)
        if line.get("kind") != "block":
            continue
        try:
            block = _block(line, plan)
            if (block.process, block.group) not in done:  # twice: a resumed run wrote it again
                done.add((block.process, block.group))
                blocks.append(block)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PagebenchError(
                f"{path}: line {number} is damaged ({error}); delete it to read the rest"
            ) from error
    return Run(path, header, plan, tuple(blocks), whole)


def _json(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if isinstance(line, dict):
        return line
    if number == 1:
        raise PagebenchError(f"{path} is not a pagebench result file")
    raise PagebenchError(f"{path}: line {number} is damaged; delete it to read the rest")

"""Rewritten loops, run: what they record of their accesses and branches."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.core.closing import Closing
from pagebench.core.extension import address, array, check, ffi, lib, pointer
from pagebench.core.memory import Offsets
from pagebench.core.variant import load_object, pointer_to
from pagebench.errors import PagebenchError

Records = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class RecordingLoops:
    """A shared object of rewritten loops, loaded until the process ends.

    ``begin`` and ``end`` are addresses of the words that say where a loop writes and where it ended.
    """

    begin: int
    end: int
    library: Any

    @classmethod
    def load(cls, path: Path, begin: str, end: str) -> RecordingLoops:
        """By the names of the two words.  Raises PagebenchError for what is no such object."""
        library = load_object(path)
        words = [address(pointer_to(library, name, "void *")) for name in (begin, end)]
        return cls(words[0], words[1], library)

    def run_of(self, symbol: str) -> int:
        """The address of a rewritten loop.  Raises ValueError where there is none."""
        return address(pointer_to(self.library, symbol, "void *"))


class Recorder(Closing):
    """A buffer for so many records, and a guard behind it; a context manager.  Raises OSError for memory."""

    def __init__(self, loops: RecordingLoops, records: int) -> None:
        self._cdata: Any = ffi.new("struct pb_recorder *")
        result = lib.pb_recorder_init(records, self._cdata)
        if result:
            self._cdata = None
            check(result, f"room for {records} records")
        self._words = ffi.new("uint64_t *[2]", [pointer(loops.begin), pointer(loops.end)])
        self._words[0][0] = address(self._cdata.records)

    def run(self, run: int, base: int, offsets: Offsets) -> tuple[Records, int]:
        """Look every offset up through the rewritten loop at ``run``.

        Returns what it recorded, valid until the next call or close(), and its last result.  Raises
        PagebenchError where that is more than there is room for.
        """
        last, count = ffi.new("const void **"), ffi.new("size_t *")
        result = lib.pb_recorder_run(
            self._cdata,
            self._words,
            ffi.cast("pb_probe_fn *", run),
            pointer(base),
            array("uint32_t[]", offsets),
            len(offsets),
            last,
            count,
        )
        if result == -errno.ENOBUFS:
            raise PagebenchError(
                f"{len(offsets)} lookups touch memory more than {self._cdata.bytes // 8} times: "
                "a loop that does not end cannot be recorded"
            )
        check(result, "running a recording loop")
        records = np.frombuffer(ffi.buffer(self._cdata.records, count[0] * 8), np.uint64)
        return records, address(last[0])

    def close(self) -> None:
        """Give the buffer back.  A second call does nothing."""
        if self._cdata is not None:
            lib.pb_recorder_deinit(self._cdata)
            self._cdata = None

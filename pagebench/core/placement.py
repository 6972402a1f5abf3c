"""Copies of timed loops, at addresses of the caller's choice."""

from __future__ import annotations

from typing import Any

from pagebench.core.closing import Closing
from pagebench.core.extension import address, check, ffi, lib
from pagebench.core.variant import Probe


class CodeArena(Closing):
    """``size`` bytes of executable memory for copies of probes; a context manager.

    Written by copy(), then sealed: executable, and read-only from then on.  Raises OSError for memory, and
    where a mapping may not be made executable.
    """

    def __init__(self, size: int) -> None:
        ret = ffi.new("void **")
        check(lib.pb_code_reserve(size, ret), f"reserving {size} bytes for code")
        self._code: Any = ret[0]
        self.size = size
        self.base = address(ret[0])

    def copy(self, probe: Probe, offset: int) -> int:
        """Copy a probe to ``offset`` and return the address of its function."""
        if not 0 <= offset <= self.size - len(probe.code):
            raise IndexError(
                f"{len(probe.code)} bytes of code at {offset} are outside the arena's {self.size}"
            )
        lib.pb_code_copy(self._code + offset, probe.cdata)
        return self.base + offset + probe.run - probe.start

    def seal(self) -> None:
        """Make the arena executable, and read-only from then on."""
        check(lib.pb_code_seal(self._code, self.size), "making copies of the timed loops executable")

    def holds(self, probe: Probe, run: int) -> bool:
        """Whether the copy whose function is at ``run`` is the probe's code, byte by byte."""
        offset = run - (probe.run - probe.start) - self.base
        return bytes(ffi.buffer(self._code + offset, len(probe.code))) == probe.code

    def close(self) -> None:
        """Unmap.  A second call does nothing."""
        if self._code is not None:
            lib.pb_code_unreserve(self._code, self.size)
            self._code = None

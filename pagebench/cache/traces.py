"""The accesses of a loop over a memmap: recorded, and turned from linear into physical lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.code.recording import BRANCH, SITE_SHIFT, Site
from pagebench.errors import PagebenchError
from pagebench.host import proc_pages
from pagebench.names import PAGE_SIZE
from pagebench.units import GIB


class NotSimulatedError(PagebenchError):
    """Why one loop's accesses cannot be simulated; others can."""


# Whose a line is: classes of accesses.
MEMMAP, PATTERN, OTHER = range(3)
ADDRESS = np.uint64((1 << SITE_SHIFT) - 1)
# A chunk's records fit L2, or nearly.
CHUNK = 1 << 17
# Where frames of 4K and 2M, and page tables, are drawn from; nothing here has as much memory.
SMALL_FRAMES, LARGE_FRAMES, TABLES = 256 * GIB, 256 * GIB, 16 * GIB
# Pages beside the memmap and the pattern that a loop may touch: a stack's.
OTHER_PAGES = 16


class Frames:
    """Draws physical frames, each once.

    Frames of 4K and of 2M are apart; what the lines of a page have in common with other pages' is chance,
    as it is in a machine.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._used: dict[int, set[int]] = {12: set(), 21: set()}
        self._tables = (SMALL_FRAMES + LARGE_FRAMES) // 64

    def draw(self, count: int, shift: int) -> npt.NDArray[np.uint32]:
        """So many frames of ``1 << shift`` bytes, by number, that nobody has yet."""
        first, size = (0, SMALL_FRAMES) if shift == 12 else (SMALL_FRAMES, LARGE_FRAMES)
        used = self._used[shift]
        drawn: list[int] = []
        while len(drawn) < count:
            for one in self._rng.integers(
                first >> shift, (first + size) >> shift, count - len(drawn)
            ).tolist():
                if one not in used:
                    used.add(one)
                    drawn.append(one)
        return np.array(drawn, np.uint32)

    def tables(self, pages: int) -> int:
        """The physical line of page-table entries for so many pages that follow each other."""
        line = self._tables + int(self._rng.integers(64)) * 64
        self._tables = line + pages // 8 + 128
        return line


@dataclass
class Memory:
    """What a loop's linear addresses are mapped to.

    ``frames``: dense numbers of the frame behind each page of 4K of the memmap, for layouts with aliases;
    None where every page has its own, and the memmap has pages of ``shift``.
    """

    base: int
    size: int
    shift: int
    frames: npt.NDArray[np.uint32] | None
    drawn: Frames
    pagemap: bool = False
    regions: list[core.Region] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = 1 << self.shift
        begin = self.base & -page
        pages = -(-(self.base + self.size - begin) // page)
        if self.frames is None or self.pagemap:
            physical = self._frames(begin, pages, self.shift)
        else:
            physical = self.drawn.draw(int(self.frames.max()) + 1, self.shift)[self.frames]
        self._add(begin, pages, self.shift, MEMMAP, physical)

    def _frames(self, begin: int, pages: int, shift: int) -> npt.NDArray[np.uint32]:
        """The frames of pages: drawn, or as they are.

        Raises PagebenchError where a page of 2M is none, or where the kernel does not tell.
        """
        if not self.pagemap:
            return self.drawn.draw(pages, shift)
        small = 1 << (shift - 12)
        frames = proc_pages.own_frames(begin, pages * small).reshape(pages, small)
        if np.any(frames - frames[:, :1] != np.arange(small)) or np.any(frames[:, 0] % small):
            raise PagebenchError("the memmap is not on pages of 2M: --huge-pages split takes it as it is")
        return np.asarray(frames[:, 0] // small, np.uint32)

    def _add(self, begin: int, pages: int, shift: int, kind: int, frames: npt.NDArray[np.uint32]) -> None:
        end = begin + (pages << shift)
        region = core.Region(begin, end, shift, kind, frames, self.drawn.tables(pages))
        self.regions = sorted([*self.regions, region], key=lambda one: one.begin)

    def add_pattern(self, offsets: core.Offsets) -> None:
        """Where the loop reads from what it looks up."""
        begin = offsets.ctypes.data & -PAGE_SIZE
        pages = -(-(offsets.ctypes.data + offsets.nbytes - begin) // PAGE_SIZE)
        self._add(begin, pages, 12, PATTERN, self._frames(begin, pages, 12))

    def add_other(self, addresses: npt.NDArray[np.uint64], what: str) -> None:
        """The pages of a loop's stack, as far as it touched them.

        Raises PagebenchError for a loop that touches more than a stack.
        """
        inside = np.zeros(len(addresses), np.bool_)
        for region in self.regions:
            inside |= (addresses >= region.begin) & (addresses < region.end)
        pages = np.unique(addresses[~inside] // np.uint64(PAGE_SIZE)).astype(np.int64)
        others = sum(len(region.frames) for region in self.regions if region.access_class == OTHER)
        if others + len(pages) > OTHER_PAGES:
            raise NotSimulatedError(
                f"{what} touches {others + len(pages)} pages beside the memmap: not simulated"
            )
        for page in pages.tolist():
            self._add(page * PAGE_SIZE, 1, 12, OTHER, self._frames(page * PAGE_SIZE, 1, 12))


def chunk_lookups(sites: Sequence[Site], turns_inside: int) -> int:
    """How many lookups' records a chunk has room for, if each site is passed at most so often in one."""
    return max(1, CHUNK // ((len(sites) + 1) * turns_inside))


def records(
    recorder: core.Recorder, run: int, base: int, offsets: core.Offsets, chunk: int
) -> Iterator[core.Records]:
    """What a recording loop records of these lookups, a chunk of lookups at a time.

    A loop with a loop inside records more than its sites: chunks get smaller then.  Raises NotSimulatedError
    where there is no room for one lookup.
    """
    first = 0
    while first < len(offsets):
        try:
            recorded, _ = recorder.run(run, base, offsets[first : first + chunk])
        except PagebenchError as error:
            if chunk == 1:
                raise NotSimulatedError(str(error)) from error
            chunk = max(1, chunk // 16)
            continue
        first += chunk
        yield recorded


def accesses_of(recorded: core.Records) -> core.Records:
    """The linear addresses of all but the branches."""
    return np.asarray(recorded[recorded < np.uint64(BRANCH)] & ADDRESS, np.uint64)


def check_sites(sites: Sequence[Site], recorded: core.Records, what: str) -> None:
    """Refuse accesses that reach into the next line: they would be one here, and are two."""
    mine = recorded[recorded < np.uint64(BRANCH)]
    size = np.array([site.bytes for site in sites], np.uint64)[
        (mine >> np.uint64(SITE_SHIFT)).astype(np.int64)
    ]
    if np.any((mine & np.uint64(63)) + size > 64):
        raise NotSimulatedError(f"{what} has an access over two lines: not simulated")

"""Caches, TLBs and predictors as one would explain them: what csrc/cachesim.c is compared with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from pagebench.core import (
    ACCESS_CLASSES,
    OUTCOME_ALIAS,
    TLB_LEVELS,
    WALK_CLASS,
    Cache,
    CacheGeometry,
    Region,
    Tlb,
)
from pagebench.core.cachesim import Words

FRAME_LINES = 64


@dataclass
class Access:
    line: int
    hash: int = 0
    site: int = 0
    access_class: int = 0

    def word(self) -> int:
        return self.line | self.hash << 40 | self.site << 48 | self.access_class << 56

    @classmethod
    def of(cls, word: int) -> Access:
        return cls(word & (1 << 38) - 1, word >> 40 & 0xFF, word >> 48 & 0xFF, word >> 56 & 7)


def words(accesses: list[Access]) -> Words:
    """With garbage in the bits that mean nothing."""
    garbage = np.random.default_rng(0).integers(0, 1 << 64, len(accesses), np.uint64)
    meaningless = np.uint64(3 << 38 | 0x1F << 59)
    return np.array([access.word() for access in accesses], np.uint64) | garbage & meaningless


class Lru:
    """The most recently used comes last."""

    def __init__(self, ways: int) -> None:
        self.ways = ways
        self.lines: OrderedDict[int, int] = OrderedDict()

    def touch(self, line: int, linear: int) -> None:
        self.lines[line] = linear
        self.lines.move_to_end(line)

    def put(self, line: int, linear: int) -> int | None:
        gone = self.lines.popitem(last=False)[0] if len(self.lines) == self.ways else None
        self.lines[line] = linear
        return gone

    def drop(self, line: int) -> None:
        self.lines.pop(line, None)


class InWays(ABC):
    """Lines stay in the way that they came to; an empty way is taken first, the lowest."""

    def __init__(self, ways: int) -> None:
        self.ways: list[int | None] = [None] * ways
        self.lines: dict[int, int] = {}

    @abstractmethod
    def victim(self) -> int:
        """The way that is emptied when all are full."""

    @abstractmethod
    def used(self, way: int) -> None:
        """A line of that way was asked for, or came."""

    def touch(self, line: int, linear: int) -> None:
        self.lines[line] = linear
        self.used(self.ways.index(line))

    def put(self, line: int, linear: int) -> int | None:
        way = self.ways.index(None) if None in self.ways else self.victim()
        gone = self.ways[way]
        if gone is not None:
            del self.lines[gone]
        self.ways[way] = line
        self.touch(line, linear)
        return gone

    def drop(self, line: int) -> None:
        if line in self.lines:
            del self.lines[line]
            self.ways[self.ways.index(line)] = None


class Plru(InWays):
    """A binary tree over the ways: each node points to its half that was not used last, first the lower."""

    def __init__(self, ways: int) -> None:
        super().__init__(ways)
        self.upper: dict[tuple[int, int], bool] = {}

    def victim(self) -> int:
        low, high = 0, len(self.ways)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.upper.get((low, high)) else (low, middle)
        return low

    def used(self, way: int) -> None:
        low, high = 0, len(self.ways)
        while high - low > 1:
            middle = (low + high) // 2
            self.upper[low, high] = way < middle
            low, high = (low, middle) if way < middle else (middle, high)


class Draws:
    def __init__(self) -> None:
        self.state = 0

    def below(self, n: int) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 32) * n >> 32


class Random(InWays):
    def __init__(self, ways: int, draws: Draws) -> None:
        super().__init__(ways)
        self.draws = draws

    def victim(self) -> int:
        return self.draws.below(len(self.ways))

    def used(self, way: int) -> None:
        """Chance does not remember it."""


class Level:
    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.sets: dict[int, Lru | InWays] = {}
        self.draws = Draws()
        # A site's last line, the last distance, whether that came twice.
        self.strides: dict[int, tuple[int, int, bool]] = {}

    def set_of(self, line: int) -> Lru | InWays:
        number = line % self.cache.sets
        if number not in self.sets:
            ways = self.cache.ways
            match self.cache.policy:
                case "lru":
                    self.sets[number] = Lru(ways)
                case "plru":
                    self.sets[number] = Plru(ways)
                case "random":
                    self.sets[number] = Random(ways, self.draws)
        return self.sets[number]

    def distance(self, access: Access, missed: bool) -> int:
        """How far ahead the prefetcher fetches; 0: not at all."""
        if self.cache.prefetch == "next-line":
            return int(missed)
        if self.cache.prefetch == "none":
            return 0
        line, distance, _ = self.strides.get(access.site, (0, 0, False))
        step = access.line - line
        if not step:
            return 0
        self.strides[access.site] = (access.line, step, step == distance)
        return step if step == distance else 0


@dataclass
class Counts:
    accesses: list[int] = field(default_factory=lambda: [0] * ACCESS_CLASSES)
    misses: list[list[int]] = field(default_factory=list)
    aliases: list[int] = field(default_factory=lambda: [0] * ACCESS_CLASSES)
    prefetches: int = 0


class CachesModel:
    def __init__(self, geometry: CacheGeometry) -> None:
        self.geometry = geometry
        self.levels = [Level(cache) for cache in geometry.caches]
        self.counts = Counts(misses=[[0] * ACCESS_CLASSES for _ in self.levels])

    def load(self, line: int, linear: int, first: int) -> tuple[int, bool]:
        """The level that had it, and whether by another linear address."""
        had, alias = first, False
        while had < len(self.levels):
            its_set = self.levels[had].set_of(line)
            if line in its_set.lines:
                alias = had == 0 and self.geometry.way_predictor and its_set.lines[line] != linear
                its_set.touch(line, linear)
                break
            had += 1
        for i in reversed(range(first, had)):
            gone = self.levels[i].set_of(line).put(line, linear)
            if gone is not None and self.geometry.inclusive and i == len(self.levels) - 1:
                for level in self.levels[:-1]:
                    level.set_of(gone).drop(gone)
        return had, alias

    def run(self, accesses: list[Access]) -> list[int]:
        """The outcome of each."""
        return [self.access(access) for access in accesses]

    def access(self, access: Access) -> int:
        had, alias = self.load(access.line, access.hash, 0)
        self.counts.accesses[access.access_class] += 1
        self.counts.aliases[access.access_class] += alias
        for i in range(had):
            self.counts.misses[i][access.access_class] += 1
        if access.access_class != WALK_CLASS:
            for i, level in enumerate(self.levels[: had + 1]):
                distance = level.distance(access, missed=i < had)
                ahead = access.line + distance
                in_frame = ahead // FRAME_LINES == access.line // FRAME_LINES
                if distance and in_frame and ahead not in level.set_of(ahead).lines:
                    self.load(ahead, access.hash, i)
                    self.counts.prefetches += 1
        return had | (OUTCOME_ALIAS if alias else 0)


class TlbModel:
    def __init__(self, tlb: Tlb | None) -> None:
        self.tlb = tlb
        self.sets: dict[int, OrderedDict[tuple[int, int], None]] = {}

    def hit(self, page: int, shift: int) -> bool:
        if self.tlb is None:
            return False
        entries = self.sets.setdefault(page % self.tlb.sets, OrderedDict())
        hit = (page, shift) in entries
        entries[page, shift] = None
        entries.move_to_end((page, shift))
        if len(entries) > self.tlb.ways:
            entries.popitem(last=False)
        return hit


def way_hash(address: int) -> int:
    pairs = [(12, 27), (13, 26), (14, 25), (15, 20), (16, 21), (17, 22), (18, 23), (19, 24)]
    return sum(((address >> a ^ address >> b) & 1) << i for i, (a, b) in enumerate(pairs))


class TranslationModel:
    def __init__(self, geometry: CacheGeometry) -> None:
        self.tlbs: list[dict[int, TlbModel]] = []
        for small, large, unified in zip(geometry.tlb_4k, geometry.tlb_2m, geometry.unified, strict=True):
            first = TlbModel(small)
            self.tlbs.append({12: first, 21: first if unified else TlbModel(large)})
        self.simulated = any((*geometry.tlb_4k, *geometry.tlb_2m))
        self.misses = [[0] * ACCESS_CLASSES for _ in range(TLB_LEVELS)]

    def walks(self, page: int, region: Region) -> bool:
        for level, tlbs in enumerate(self.tlbs):
            if tlbs[region.page_shift].hit(page, region.page_shift):
                return False
            self.misses[level][region.access_class] += 1
        return self.simulated

    def translate(self, regions: list[Region], records: list[int]) -> list[Access]:
        accesses = []
        for record in records:
            address = record & (1 << 48) - 1
            if record >> 63:
                continue
            (region,) = [region for region in regions if region.begin <= address < region.end]
            shift = region.page_shift
            page, first = address >> shift, region.begin >> shift
            if self.simulated and self.walks(page, region):
                # Entries of 8 bytes, the first of which is somewhere in its line.
                in_line = 8 * (first % 8) + 8 * (page - first)
                accesses.append(Access(region.walk_line + in_line // 64, access_class=WALK_CLASS))
            physical = int(region.frames[page - first]) << shift | address & (1 << shift) - 1
            site = record >> 48 & 0xFF
            accesses.append(Access(physical >> 6, way_hash(address), site, region.access_class))
        if not self.simulated:
            self.misses = [[0] * ACCESS_CLASSES for _ in range(TLB_LEVELS)]
        return accesses


def counters_misses(branches: list[tuple[int, bool]], history_bits: int) -> int:
    """Mispredictions of two-bit counters: a site's own, or with so many bits of history exclusive-or'd in."""
    counters: dict[int, int] = {}
    history = wrong = 0
    for site, taken in branches:
        index = site ^ history
        counter = counters.get(index, 1)
        wrong += (counter >= 2) != taken
        counters[index] = min(counter + 1, 3) if taken else max(counter - 1, 0)
        history = (history << 1 | taken) % (1 << history_bits)
    return wrong

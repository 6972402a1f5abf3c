"""Nothing is timed that was not verified: every pfn looked up through the loop that will be timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.measure.group_memmaps import CellLoop, GroupMemmaps
from pagebench.memmap.folios import FolioMap
from pagebench.plan import groups

Ints = npt.NDArray[np.int64]
Counts = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]


def verify(
    memmaps: GroupMemmaps,
    group: groups.Group,
    segments: Sequence[Sequence[CellLoop]],
    rng: np.random.Generator,
) -> None:
    """Look every pfn up through a copy of each cell's loop, and hold it to the model.

    Raises PagebenchError that names pfn, got and expected.  lookup comes first: the probes that go on to
    write to a head must not have a wrong one.
    """
    folio_map = memmaps.folio_map
    every = folio_map.page_pfns
    for loops in segments:
        memmaps.encode(loops)
        for loop in loops:
            run = int(rng.choice(loop.runs))
            probe = loop.variant.probes[group.probe]
            lookup = loop.variant.probes["lookup"].run
            if probe.writes_tails:
                _scrub(folio_map, loop)
                _look_up(memmaps, loop, group, run, group.probe, folio_map.pfns)
                _look_up(memmaps, loop, group, lookup, "lookup", every)
                continue
            if group.probe not in ("lookup", "chain"):
                _look_up(memmaps, loop, group, lookup, "lookup", every)
            before = _counts(folio_map, loop) if probe.uses_head or probe.writes_counts else None
            _look_up(memmaps, loop, group, run, group.probe, every)
            if before is not None:
                _check_counts(folio_map, loop, group, probe, before, _counts(folio_map, loop))


def _look_up(
    memmaps: GroupMemmaps, loop: CellLoop, group: groups.Group, run: int, probe: str, pfns: Ints
) -> None:
    folio_map = memmaps.folio_map
    every = pfns is folio_map.page_pfns
    offsets = folio_map.page_offsets if every else folio_map.offsets_of(pfns)
    heads = _expected_offsets(folio_map, loop, probe, pfns)

    def look_up(part: slice) -> core.Verification:
        found = core.verify(run, loop.base, offsets[part], heads[part])
        return dataclasses.replace(found, first=part.start + found.first)

    wrong = [found for found in memmaps.spare.share(look_up, len(pfns)) if found.wrong]
    if wrong:
        verified = dataclasses.replace(wrong[0], wrong=sum(found.wrong for found in wrong))
        raise wrong_head(str(loop.cell.contender), group.title, folio_map, pfns, verified)


def _expected_offsets(folio_map: FolioMap, loop: CellLoop, probe: str, pfns: Ints) -> core.Offsets:
    """Offsets of what lookups of these pfns have to return."""
    identity = loop.variant.name == names.IDENTITY
    if pfns is folio_map.page_pfns:  # every page, again and again: computed once
        own, heads = folio_map.page_offsets, folio_map.head_offsets
    else:
        own = folio_map.offsets_of(pfns)
        heads = own if identity else folio_map.offsets_of(folio_map.heads_of(pfns))
    match loop.variant.probes[probe].returns:
        case "counted":  # tails have a _refcount of 0
            return np.where(folio_map.heads_of(pfns) == pfns, own, core.NO_PAGE)
        case "page":
            return own
        case "head":
            return own if identity else heads


def expected_addresses(folio_map: FolioMap, loop: CellLoop, probe: str, pfns: Ints) -> npt.NDArray[np.uint64]:
    """The addresses that lookups of these pfns have to return; 0 for NULL."""
    offsets = _expected_offsets(folio_map, loop, probe, pfns)
    addresses = loop.base + offsets.astype(np.uint64) * np.uint64(core.OFFSET_UNIT)
    return np.where(offsets == core.NO_PAGE, np.uint64(0), addresses)


def _as_ints(folio_map: FolioMap, loop: CellLoop) -> tuple[npt.NDArray[np.int32], Ints]:
    """The memmap as ints, and where in them the struct pages of ``page_pfns`` begin."""
    begin = folio_map.page_offsets.astype(np.int64) * (core.OFFSET_UNIT // 4)
    size = (int(begin.max()) * 4 + folio_map.struct_page_bytes) // 4
    return core.view(loop.base, size * 4).view(np.int32), begin


def _counts(folio_map: FolioMap, loop: CellLoop) -> Counts:
    """Every page's _refcount and _mapcount."""
    ints, begin = _as_ints(folio_map, loop)
    return ints[begin + loop.variant.refcount_at // 4], ints[begin + loop.variant.mapcount_at // 4]


def _arrivals(folio_map: FolioMap, loop: CellLoop, returns: core.Returns) -> tuple[Ints, Ints]:
    """Where among ``page_pfns`` lookups of each of them arrive, and how many do.

    Aliases are read-only, and nobody arrives there who writes.
    """
    if returns == "page" or (returns == "head" and loop.variant.name == names.IDENTITY):
        return np.arange(len(folio_map.page_pfns)), np.ones(len(folio_map.page_pfns), np.int64)
    heads = np.flatnonzero(folio_map.page_heads == folio_map.page_pfns)
    return heads, 1 << folio_map.orders if returns == "head" else np.ones(len(heads), np.int64)


def _check_counts(
    folio_map: FolioMap,
    loop: CellLoop,
    group: groups.Group,
    probe: core.Probe,
    before: Counts,
    after: Counts,
) -> None:
    """Every page's _refcount and _mapcount, after one lookup of each pfn."""
    at, hits = _arrivals(folio_map, loop, probe.returns)
    for name, now, then, each in (
        ("_refcount", after[0], before[0], probe.adds_refs),
        ("_mapcount", after[1], before[1], probe.adds_maps),
    ):
        wrong = np.flatnonzero((now - then)[at] != each * hits)
        if len(wrong):
            index = int(at[wrong[0]])
            raise PagebenchError(
                f"{loop.cell.contender} leaves a wrong {name} ({group.title}): "
                f"pfn {folio_map.page_pfns[index]} changed by {(now - then)[index]}, "
                f"expected {each * hits[wrong[0]]}; it was not timed"
            )


def _scrub(folio_map: FolioMap, loop: CellLoop) -> None:
    """Make every tail look like a head, so that only prep can mend it."""
    ints, begin = _as_ints(folio_map, loop)
    tails = begin[folio_map.page_pfns != folio_map.page_heads] + core.OFFSET_UNIT // 4
    ints[tails] = ints[tails + 1] = 0


def wrong_head(
    contender: str, title: str, folio_map: FolioMap, pfns: Ints, verified: core.Verification
) -> PagebenchError:
    """The error for a contender whose lookups of ``pfns`` are wrong."""
    pfn = int(pfns[verified.first])
    head = int(folio_map.heads_of(pfns[verified.first]))
    at = np.flatnonzero(folio_map.page_offsets.astype(np.int64) * core.OFFSET_UNIT == verified.got)
    arrived = f"pfn {folio_map.page_pfns[at[0]]}" if len(at) else f"{verified.got:+d} bytes from the memmap"
    return PagebenchError(
        f"{contender} finds wrong heads ({title}): {verified.wrong} of {len(pfns)} pfns, "
        f"the first pfn {pfn}: got {arrived}, "
        f"expected pfn {head}; it was not timed"
    )

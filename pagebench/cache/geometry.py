"""Which caches and TLBs are simulated: this machine's, a named CPU's, or a file's."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pagebench import core, names
from pagebench.cache import cpuid
from pagebench.cache.cpus import CPUS_KNOWN, WAYS, Cpu, of_size
from pagebench.errors import PagebenchError
from pagebench.host.files import ROOT, read
from pagebench.host.machine import CPUS, Machine
from pagebench.names import LINE_BYTES
from pagebench.results.lines import check_printable
from pagebench.results.simulated import Cache, Geometry, Tlbs

# No machine's comes near, and the simulator's memory is for as many.  In fewer sets tags of 32 bits do not
# tell the lines of all frames apart that are drawn: traces.Frames.
MIN_SETS, MAX_SETS, MAX_ENTRIES = 4, 1 << 24, 1 << 20


def find(text: str) -> Geometry:
    """A geometry by the name of a CPU, or from a JSON file.  Raises PagebenchError."""
    if text in CPUS_KNOWN:
        cpu = CPUS_KNOWN[text]
        return Geometry(
            name=text,
            source=cpu.source,
            caches=cpu.caches,
            tlbs=cpu.tlbs,
            inclusive=cpu.inclusive,
            way_predictor=cpu.way_predictor,
            adds_at_rename=cpu.adds_at_rename,
        )
    path = Path(text)
    if not path.exists() and "/" not in text and not path.suffix:
        raise names.nearest(text, CPUS_KNOWN, "CPU")
    try:
        if not path.is_file():
            raise PagebenchError(f"{text} is no file: name a CPU ({', '.join(CPUS_KNOWN)}) or a JSON file")
        decoded = msgspec.json.decode(path.read_bytes(), type=Geometry)
        check_printable(msgspec.to_builtins(decoded))
        return check(decoded)
    except OSError as error:
        raise PagebenchError(f"cannot read {text}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PagebenchError(f"{text} is no geometry ({error}): `cache --format json` has one") from error


def check(geometry: Geometry) -> Geometry:
    """Refuse what cannot be simulated.  Raises PagebenchError."""
    for cache in geometry.caches:
        if not MIN_SETS <= cache.sets <= MAX_SETS:
            raise PagebenchError(
                f"{geometry.name} has a cache of {cache.sets} sets: {MIN_SETS} to {MAX_SETS} can be simulated"
            )
        if geometry.policy == "plru" and cache.ways & (cache.ways - 1):
            raise PagebenchError(
                f"tree-PLRU wants a power of two of ways, and {geometry.name} has {cache.ways}: choose lru"
            )
    tlbs = geometry.tlbs
    for tlb in (tlbs.first, tlbs.first_2m, tlbs.second) if tlbs else ():
        if tlb is not None and (tlb.entries > MAX_ENTRIES or tlb.entries % tlb.ways):
            raise PagebenchError(
                f"{geometry.name} has a TLB of {tlb.entries} entries in {tlb.ways} ways: "
                f"a multiple of them, and {MAX_ENTRIES} at most"
            )
    return geometry


def here(
    described: Machine,
    l3_measured_bytes: int | None,
    root: Path = ROOT,
    huge_pages: names.HugePages | None = None,
) -> Geometry:
    """This machine's: caches by sysfs, the L3 as measured where it was, TLBs of the CPU if that is known."""
    said = _caches(described.cpu, root)
    tlbs = cpuid.tlbs(core.cpuid)
    return _of(described, "caches by sysfs", said, tlbs, l3_measured_bytes, huge_pages)


def elsewhere(described: Machine, l3_measured_bytes: int | None) -> Geometry:
    """Another machine's: its CPU's, if that is known, or else the sizes that it said, of 16 ways each."""
    sizes = (described.caches.l1d_bytes, described.caches.l2_bytes, described.caches.l3_bytes)
    said = tuple(of_size(size, WAYS) for size in sizes if size)
    return _of(
        described, "sizes as it said", () if _known(described) else said, None, l3_measured_bytes, None
    )


def _of(
    described: Machine,
    by: str,
    said: tuple[Cache, ...],
    tlbs: Tlbs | None,
    l3_measured_bytes: int | None,
    huge_pages: names.HugePages | None,
) -> Geometry:
    known = _known(described)
    caches = said or (known[1].caches if known else ())
    if not caches:
        raise PagebenchError("this machine does not say what caches it has: name a CPU with --geometry")
    source = [by if said or not known else f"caches of {known[0]}"]
    if l3_measured_bytes is not None and len(caches) == 3:
        caches = (*caches[:2], of_size(l3_measured_bytes, caches[2].ways))
        source.append("L3 as measured")
    if huge_pages is not None:
        source.append(f"2M pages as measured: {huge_pages}")
    if known:
        source.append(f"TLBs of {known[0]}")
    else:
        source.append("TLBs by CPUID" if tlbs else "no TLB, as this CPU's is not known")
    return Geometry(
        name=described.cpu_model,
        source=", ".join(source),
        caches=caches,
        tlbs=known[1].tlbs if known else tlbs,
        inclusive=bool(known and known[1].inclusive),
        way_predictor=bool(known and known[1].way_predictor),
        huge_pages=huge_pages or "whole",
        adds_at_rename=bool(known and known[1].adds_at_rename),
    )


def _known(described: Machine) -> tuple[str, Cpu] | None:
    for name, cpu in CPUS_KNOWN.items():
        for vendor, family, models in cpu.ids:
            if (described.vendor, described.family) == (vendor, family) and described.model in models:
                return name, cpu
    return None


def _caches(cpu: int, root: Path) -> tuple[Cache, ...]:
    """Data and unified caches by level, as sysfs has them; none where it does not say sets and ways."""
    found = {}
    for index in sorted((root / CPUS / f"cpu{cpu}/cache").glob("index*")):
        if read(index / "type") not in ("Data", "Unified"):
            continue
        level, sets, ways = (
            read(index / name) or "" for name in ("level", "number_of_sets", "ways_of_associativity")
        )
        if level in ("1", "2", "3") and sets.isdecimal() and ways.isdecimal() and int(sets) and int(ways):
            found[level] = of_size(int(sets) * int(ways) * LINE_BYTES, int(ways))
    return tuple(found[level] for level in sorted(found))

"""Loops by hand: assembled, and recorded over memory of the test's own."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from elftools.elf.elffile import ELFFile
from test_form import probe

from pagebench import core
from pagebench.cache import recorded
from pagebench.code.disassembly import Op
from pagebench.code.recording import BRANCH, SITE_SHIFT, Site
from pagebench.variants import compiler

SYNTAX = {"x86_64": ".intel_syntax noprefix", "aarch64": ".arch armv8.1-a"}


@cache
def _assembled(texts: tuple[str, ...], machine: str, cc: tuple[str, ...]) -> list[bytes]:
    source = SYNTAX[machine] + "\n"
    for number, text in enumerate(texts):
        source += f'.section s{number}, "ax"\n' + text.replace("; ", "\n") + "\n"
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "code.s"
        path.write_text(source)
        argv = [*cc, "-c", str(path), "-o", str(path.with_suffix(".o"))]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        with path.with_suffix(".o").open("rb") as file:
            elf: Any = ELFFile(file)
            return [elf.get_section_by_name(f"s{number}").data() for number in range(len(texts))]


def assembled(
    texts: Sequence[str], machine: str = "x86_64", cc: tuple[str, ...] | None = None
) -> list[bytes]:
    """The machine code of each text: instructions behind semicolons."""
    return _assembled(tuple(texts), machine, cc or tuple(compiler.find()))


def loop(text: str, start: int = 0, machine: str = "x86_64") -> core.Probe:
    """A probe of these instructions."""
    (code,) = assembled([text], machine)
    return dataclasses.replace(probe(code, (0, 0)), start=start, run=start)


@dataclass(frozen=True)
class Recorded:
    """What a loop recorded: its result, and of each record the site, and the address or the outcome."""

    last: int
    sites: tuple[Site, ...]
    records: npt.NDArray[np.uint64]

    @property
    def site_numbers(self) -> list[int]:
        return (self.records >> np.uint64(SITE_SHIFT) & np.uint64(0x7FFF)).astype(int).tolist()

    @property
    def accesses(self) -> list[tuple[str, int, int]]:
        """Kind, bytes and address of each, in order; the return's is the last."""
        return [
            (self.sites[site].kind, self.sites[site].bytes, int(record) & ((1 << SITE_SHIFT) - 1))
            for site, record in zip(self.site_numbers, self.records, strict=True)
            if int(record) < BRANCH
        ]

    @property
    def outcomes(self) -> list[bool]:
        """Of each branch, whether it is taken."""
        return [bool(int(record) & 1) for record in self.records if int(record) >= BRANCH]


def records_of(
    recorder: core.Recorder, ready: recorded.Recorded, one: recorded.Loop, base: int, offsets: core.Offsets
) -> Recorded:
    """What one of these loops records; a copy."""
    records, last = recorder.run(ready.runs[one], base, offsets)
    return Recorded(last, ready.sites[one], records.copy())


def run_all(
    probes: Mapping[str, core.Probe], base: int, offsets: core.Offsets
) -> Iterator[tuple[str, Recorded]]:
    """What each of these loops records."""
    ready = recorded.record({(name, "by hand"): one for name, one in probes.items()})
    assert not ready.refused
    with core.Recorder(ready.loops, 1000) as recorder:
        for name in probes:
            yield name, records_of(recorder, ready, (name, "by hand"), base, offsets)


def walked(ops: Mapping[int, Op], run: int, sites: Sequence[Site], outcomes: Sequence[bool]) -> list[int]:
    """The sites that a loop passes from ``run`` to its return, conditional jumps taken as told."""
    told, at, passed = iter(outcomes), run, []
    while True:
        op = ops[at]
        passed += [number for number, site in enumerate(sites) if site.offset == at]
        if not op.successors:
            assert not list(told)
            return passed
        at = op.successors[-1] if len(op.successors) == 1 or next(told) else op.successors[0]

"""Recording loops of the variants and probes that a plan times: rewritten, assembled, loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagebench import core
from pagebench.code import recording
from pagebench.errors import PagebenchError
from pagebench.variants import cache, compiler

# A variant and a probe.
Loop = tuple[str, str]

WORDS = f"""\
.section .note.GNU-stack,"",%progbits
.data
.balign 8
.globl {recording.BEGIN}, {recording.END}
.protected {recording.BEGIN}, {recording.END}
{recording.BEGIN}: .quad 0
{recording.END}: .quad 0
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recording loops in memory: the address and the sites of each, and why others cannot be recorded."""

    loops: core.RecordingLoops
    runs: Mapping[Loop, int]
    sites: Mapping[Loop, tuple[recording.Site, ...]]
    refused: Mapping[Loop, str]


def assembly(recordings: Mapping[Loop, recording.Recording]) -> str:
    """One assembler file of rewritten loops and the words that they write by."""
    return "".join([*(one.assembly for one in recordings.values()), WORDS])


def record(probes: Mapping[Loop, core.Probe]) -> Recorded:
    """Rewrite, assemble and load loops.

    Raises PagebenchError where none of them can be recorded, or where there is no compiler.
    """
    recordings: dict[Loop, recording.Recording] = {}
    refused: dict[Loop, str] = {}
    for number, (loop, probe) in enumerate(probes.items()):
        try:
            recordings[loop] = recording.rewrite(probe, f"pb_recording_{number}")
        except PagebenchError as error:
            refused[loop] = str(error)
    if not recordings:
        raise PagebenchError(next(iter(refused.values()), "there is no loop to record"))
    loops = core.RecordingLoops.load(_assembled(assembly(recordings)), recording.BEGIN, recording.END)
    return Recorded(
        loops,
        {loop: loops.run_of(one.symbol) for loop, one in recordings.items()},
        {loop: one.sites for loop, one in recordings.items()},
        refused,
    )


def _assembled(text: str) -> Path:
    cc = compiler.find()

    def make(scratch: Path) -> None:
        source = scratch / "recording.s"
        source.write_text(text)
        argv: list[str | Path] = [*cc, "-shared", "-nostdlib", "-o", scratch / cache.OBJECT, source]
        compiler.compile_logged(argv, "the recording loops", scratch / cache.LOG)

    return cache.cached_object("recording", [repr(cc).encode(), text.encode()], make)


def verified_copy(variant: core.Variant, loop: Loop, run: int) -> core.Variant:
    """The variant with one probe's loop being the recording one."""
    probe = dataclasses.replace(variant.probes[loop[1]], run=run)
    return dataclasses.replace(variant, probes={**variant.probes, loop[1]: probe})

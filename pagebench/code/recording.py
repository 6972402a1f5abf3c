"""The recording rewrite: a timed loop's machine code that records each access and each branch as it goes.

Every instruction stays the bytes that are timed.  Before one that loads or stores, its address goes into a
buffer, before a conditional jump its outcome; neither changes a flag or a register of the loop's.  What the
rewritten loop records, the timed one does.

A record is 64 bits: an address in bits 0 to 47, the number of its site in bits 48 to 62; of a branch bit 63
is set, and bit 0 says whether it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from pagebench import architecture, core
from pagebench.code.disassembly import decode
from pagebench.code.emitters import BEGIN, BRANCH, EMITTERS, END, SITE_SHIFT, Kind
from pagebench.errors import PagebenchError

__all__ = ["BEGIN", "BRANCH", "END", "SITE_SHIFT", "Recording", "Site", "rewrite"]


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction that is recorded: where in the probe it is, what it does, and to how many bytes."""

    offset: int
    kind: Kind
    bytes: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A rewritten loop: a function ``symbol`` in assembly, called as the probe is, and its sites by number.

    It begins to write where ``BEGIN``, a word of the object that it is linked into, points to, and leaves in
    ``END`` where it ended.
    """

    symbol: str
    assembly: str
    sites: tuple[Site, ...]


def rewrite(probe: core.Probe, symbol: str, machine: str | None = None) -> Recording:
    """The probe's loop, recording, as a function of that symbol.

    ``machine`` is a ``uname -m``, the running one by default.  Raises PagebenchError, which names the
    instruction, for a loop that does what cannot be recorded, and for one that leaves too few registers free.
    """
    known = architecture.find(machine)
    emit = EMITTERS[known.name]()
    ops = decode(probe, known.name)
    used = set().union(*(op.reads | op.writes for op in ops.values()))
    own = tuple(name for name in emit.candidates if name not in used)[: emit.needs]
    if len(own) < emit.needs:
        raise PagebenchError(
            f"the probe {probe.name} cannot be recorded: its loop leaves {len(own)} registers free, "
            f"and {emit.needs} are needed"
        )
    sites: list[Site] = []
    body: list[str] = []
    for at, op in ops.items():
        body.append(f".L{symbol}_{at:x}:")
        away = op.target is not None and op.target not in ops
        if emit.refused(op) or away:
            elsewhere = away or (op.target is None and not op.memory)
            what = "goes elsewhere" if elsewhere else "does what is not known"
            raise PagebenchError(f"the probe {probe.name} cannot be recorded: {op} {what}")
        if op.memory or emit.implied(op):
            body += emit.record_access(op, own, len(sites), probe.start + at)
            sites.append(Site(at, emit.kind_of(op), emit.bytes_of(op)))
        if op.jumps_if:
            body += emit.record_branch(op, own, len(sites))
            sites.append(Site(at, "branch", 0))
        if op.target is not None:
            body.append(emit.jump(op, f".L{symbol}_{op.target:x}"))
        else:
            as_is = ", ".join(f"{byte:#04x}" for byte in probe.code[at : at + op.size])
            body.append(emit.moved(op, own, probe.start + at) or f".byte {as_is}")
    run = probe.run - probe.start
    lines = [
        emit.syntax,
        ".text",
        f".globl {symbol}",
        f".type {symbol}, @function" if known.name == "x86_64" else f".type {symbol}, %function",
        ".balign 16",
        f"{symbol}:",
        *emit.enter(symbol, own),
        ".balign 16",
        f".set {symbol}_loop, .L{symbol}_{run:x}",
        *body,
        f".size {symbol}, . - {symbol}",
        "",
    ]
    return Recording(symbol, "\n".join(lines), tuple(sites))

"""The chain of a loop: what each turn waits for the turn before for.

A model with no limit but dependencies: an instruction begins when what it reads is there.  Conditional jumps
are foreseen, so nothing waits for them; what a misprediction costs is another matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pagebench.code.disassembly import Op, parse_number, registers

TURNS = 16
# Cycles of what takes more than one: integer multiply, bit scans.
SLOW = {"imul": 3, "mul": 3, "popcnt": 3, "bsf": 3, "bsr": 3, "tzcnt": 3, "lzcnt": 3, "madd": 3, "msub": 3}
ZEROED = {"xor", "sub", "eor"}
# Two latencies of a load, far apart: what is between them tells how many loads are in the chain.
NEAR, FAR = 5, 1005


def path_of(ops: Mapping[int, Op], start: int, outcomes: Iterable[bool]) -> list[Op]:
    """The instructions from ``start`` round to it again, conditional jumps taken as told."""
    told, at, path = iter(outcomes), start, []
    while True:
        op = ops[at]
        path.append(op)
        ways = op.successors
        at = ways[-1] if len(ways) == 1 or next(told) else ways[0]
        if at == start:
            return path


def chain(path: Sequence[Op], adds_at_rename: bool) -> tuple[float, float]:
    """Cycles in registers, and loads, that a turn of this path adds to the time of the turns before it.

    ``adds_at_rename``: the core adds an immediate when it renames registers, which takes no cycle (Intel
    since Golden Cove).
    """
    near, far = (_growth(path, load, adds_at_rename) for load in (NEAR, FAR))
    loads = (far - near) / (FAR - NEAR)
    return near - NEAR * loads, loads


def _growth(path: Sequence[Op], load: float, adds_at_rename: bool) -> float:
    ready: dict[str, float] = {}
    turns = []
    for _ in range(TURNS):
        for op in path:
            _issue(op, ready, load, adds_at_rename)
        turns.append(dict(ready))
    # Of each result by itself: one far behind a load that no other waits for is late, and grows no faster.
    begin, end = turns[TURNS // 2 - 1], turns[-1]
    return max((end[name] - begin[name] for name in begin), default=0.0) / (TURNS - TURNS // 2)


def _issue(op: Op, ready: dict[str, float], load: float, adds_at_rename: bool) -> None:
    """When the results of an instruction are there."""
    memory = op.memory
    zero = op.name in ZEROED and len(op.args) == 2 and op.args[0] == op.args[1]
    begins = 0.0 if zero else _latest(ready, op.reads)
    stored = f"memory {memory.split('[')[-1]}" if memory else ""
    if memory and not _only_stores(op):
        # The load waits for its address alone, and what the loop itself stored is forwarded.
        begins = max(begins, _latest(ready, registers(memory) | {stored}) + load)
    takes = 0.0 if op.name.startswith(("mov", "ldr", "ldu", "str", "stu")) else _cycles(op, adds_at_rename)
    for register in op.writes:
        ready[register] = begins + takes
    if _stores(op) and stored.startswith(("memory rsp", "memory sp")):
        ready[stored] = begins + takes


def _latest(ready: Mapping[str, float], of: Iterable[str]) -> float:
    return max((ready.get(one, 0.0) for one in of), default=0.0)


def _stores(op: Op) -> bool:
    if op.name.startswith("st"):  # aarch64's, which has the place last
        return bool(op.memory)
    return bool(op.memory) and op.memory == op.args[0] and op.name not in {"cmp", "test", "bt"}


def _only_stores(op: Op) -> bool:
    return op.name.startswith(("st", "set")) or (op.name.startswith("mov") and op.memory == op.args[0])


def _cycles(op: Op, adds_at_rename: bool) -> float:
    immediate = (
        op.name in {"add", "sub", "inc", "dec"}
        and not op.memory
        and (len(op.args) == 1 or parse_number(op.args[-1]) is not None)
    )
    moved = (
        op.name == "lea"
        and re.fullmatch(r"\[\w+ [+-] \w+\]", op.args[1])
        and parse_number(op.args[1].split()[-1][:-1])
    )
    if adds_at_rename and (immediate or moved):
        return 0.0
    return float(SLOW.get(op.name, 1))

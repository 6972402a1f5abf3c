"""Many machines in one table: each effect's sign and size on each CPU model.

Absolute times of different machines are not compared; what is set side by side is what each machine says of
the same question, by its own intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from pagebench.errors import PagebenchError
from pagebench.names import Level, Verdict
from pagebench.plan.questions import SERIES, of_family
from pagebench.results.lines import ProbeCode
from pagebench.results.measured import Measured
from pagebench.results.provenance import MEANING, cpu
from pagebench.results.statistics import number
from pagebench.results.summary import Estimate, Number, Row, SeriesRow, Summary

SCHEMA = 1
# Of an effect over machines: one sign wherever it is resolved, both, or none.
Sign = Literal["slower", "faster", "equivalent", "both", "unresolved"]


class JoinedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A CPU model, and the runs that are of it.  ``trusted``: whether a run's positive control is good."""

    cpu: str
    runs: tuple[str, ...]
    kernels: tuple[str, ...]
    hypervisors: tuple[str, ...]
    compilers: tuple[str, ...]
    core_ghz: Number
    l3_measured_bytes: int | None
    trusted: bool


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """An effect on one CPU model.

    Of several runs: the median of their estimates, the interval that encloses theirs, and a verdict where all
    have the same one.
    """

    ns: Estimate
    cycles: Estimate
    level: Level
    verdict: Verdict
    resolvable_ns: Number
    runs: int


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What ``after`` does instead of ``before`` in one kind of cell.

    ``sizes``: by machine, in their order; null where it was not measured.  ``best``, ``worst``: the machines
    with the least and the largest resolved difference, by their number.  ``unresolved``: those that cannot
    tell.
    """

    question: str
    before: str
    after: str
    probe: str
    pattern: str
    order: int
    footprint_bytes: int
    sizes: tuple[Size | None, ...]
    sign: Sign
    best: int | None
    worst: int | None
    unresolved: tuple[int, ...]


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """Every effect on every CPU model."""

    schema: int = SCHEMA
    machines: tuple[JoinedMachine, ...]
    effects: tuple[Effect, ...]
    warnings: tuple[str, ...]


_Asked = tuple[str, str, str, str, str, int, int]


def join(runs: Sequence[Measured]) -> Joined:
    """The effects that runs measured, by CPU model.

    The series' questions where a run answers them, else each contender against the reference.  Raises
    PagebenchError where struct pages or memory models differ, and where runs have no effect.
    """
    _check_meaning(runs)
    by_cpu: dict[str, list[Measured]] = {}
    for run in runs:
        by_cpu.setdefault(cpu(run.run.header.machine), []).append(run)
    for name, mine in by_cpu.items():
        _check_one_code(name, mine)
    machines = tuple(_machine(name, mine) for name, mine in by_cpu.items())
    of_series = any(_of_series(run.summary) for run in runs)
    rows: list[list[dict[_Asked, Row]]] = [
        [dict(_effects(run.summary, of_series)) for run in _counted(mine)] for mine in by_cpu.values()
    ]
    asked = dict.fromkeys(key for of_machine in rows for of_run in of_machine for key in of_run)
    effects = tuple(_effect(key, rows, machines) for key in asked)
    if not effects:
        raise PagebenchError("these runs compare nothing: give each two contenders at least")
    warnings = [
        f"{run.name}: its positive control is off or not finished, what it says is not counted"
        for run in runs
        if run.side.trusted is not True
    ]
    return Joined(
        machines=machines, effects=effects, warnings=(*warnings, *_warnings(machines, effects, by_cpu))
    )


def _check_meaning(runs: Sequence[Measured]) -> None:
    first = runs[0].run
    for other in (run.run for run in runs[1:]):
        for what, of in MEANING.items():
            if of(first) != of(other):
                raise PagebenchError(
                    f"{first.path} and {other.path} do not measure the same: {what} is {of(first)} in the "
                    f"one, {of(other)} in the other"
                )


def _check_one_code(name: str, runs: Sequence[Measured]) -> None:
    """Of one CPU model, a contender is one machine code: others are another contender."""
    seen: dict[str, tuple[Measured, Mapping[str, ProbeCode]]] = {}
    for run in runs:
        for variant, code in run.run.header.variants.items():
            before, loops = seen.setdefault(variant, (run, code.probes))
            common = loops.keys() & code.probes.keys()
            if any(loops[probe].code != code.probes[probe].code for probe in common):
                raise PagebenchError(
                    f"{variant} is other machine code in {run.run.path} than in {before.run.path}, both of "
                    f"{name}: `compare` tells them apart"
                )


def _counted(runs: Sequence[Measured]) -> Sequence[Measured]:
    """The runs whose control is good; all where none is, to be shown and not counted."""
    return [run for run in runs if run.side.trusted is True] or runs


def _machine(name: str, runs: Sequence[Measured]) -> JoinedMachine:
    machines = [run.run.header.machine for run in runs]
    ghz = sorted(run.run.median_ghz for run in runs)
    l3 = [run.run.plan.levels.l3_bytes for run in runs if run.run.header.calibration]
    return JoinedMachine(
        cpu=name,
        runs=tuple(run.name for run in runs),
        kernels=tuple(dict.fromkeys(machine.kernel_release for machine in machines)),
        hypervisors=tuple(dict.fromkeys(machine.hypervisor or "none seen" for machine in machines)),
        compilers=tuple(dict.fromkeys(run.run.header.compiler.name for run in runs)),
        core_ghz=number(ghz[len(ghz) // 2]),
        l3_measured_bytes=min(l3) if l3 else None,
        trusted=any(run.side.trusted is True for run in runs),
    )


def _of_series(summary: Summary) -> list[SeriesRow]:
    questions = {question.name for question in of_family(SERIES)}
    return [row for row in summary.series if row.question in questions]


def _effects(summary: Summary, of_series: bool) -> Iterable[tuple[_Asked, Row]]:
    """What a run says, by what was asked."""
    if of_series:
        for answer in _of_series(summary):
            name = f"{answer.question}, trees" if answer.tree else answer.question
            yield (name, answer.before, answer.after, *answer.place), answer
        return
    for row in summary.cells:
        if row.verdict != "reference":
            yield ("", summary.plan.reference, row.contender, *row.place), row


def _effect(
    key: _Asked, rows: Sequence[Sequence[Mapping[_Asked, Row]]], machines: Sequence[JoinedMachine]
) -> Effect:
    sizes = tuple(_size([of_run[key] for of_run in mine if key in of_run]) for mine in rows)
    told = {
        i: size
        for i, (size, machine) in enumerate(zip(sizes, machines, strict=True))
        if size is not None and machine.trusted
    }
    resolved = {i: size for i, size in told.items() if size.verdict in ("faster", "slower")}
    ranked = sorted(resolved, key=lambda i: resolved[i].ns.estimate or 0.0)
    question, before, after, probe, pattern, order, footprint = key
    return Effect(
        question=question,
        before=before,
        after=after,
        probe=probe,
        pattern=pattern,
        order=order,
        footprint_bytes=footprint,
        sizes=sizes,
        sign=_sign({size.verdict for size in told.values()}),
        best=ranked[0] if ranked else None,
        worst=ranked[-1] if ranked else None,
        unresolved=tuple(
            i
            for i, size in enumerate(sizes)
            if size is not None and (i not in told or size.verdict == "inconclusive")
        ),
    )


def _sign(verdicts: set[Verdict]) -> Sign:
    found = verdicts & {"faster", "slower"}
    if len(found) == 2:
        return "both"
    if "slower" in found:
        return "slower"
    if "faster" in found:
        return "faster"
    return "equivalent" if "equivalent" in verdicts else "unresolved"


def _size(rows: Sequence[Row]) -> Size | None:
    """Of a machine's runs that measured it."""
    if not rows:
        return None
    verdict = rows[0].verdict if len({row.verdict for row in rows}) == 1 else None
    resolvable = [row.smallest_resolvable_ns for row in rows]
    known = [value for value in resolvable if value is not None]
    return Size(
        ns=_enclosing([row.difference.ns for row in rows]),
        cycles=_enclosing([row.difference.cycles for row in rows]),
        level=rows[0].level,
        verdict=verdict or "inconclusive",
        resolvable_ns=max(known) if len(known) == len(resolvable) else None,
        runs=len(rows),
    )


def _enclosing(estimates: Sequence[Estimate]) -> Estimate:
    known = sorted(one.estimate for one in estimates if one.estimate is not None)
    lows, highs = [one.low for one in estimates], [one.high for one in estimates]
    if not known:
        return Estimate(None, None, None)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    low = None if None in lows else min(value for value in lows if value is not None)
    high = None if None in highs else max(value for value in highs if value is not None)
    return Estimate(number(middle), low, high)


def _warnings(
    machines: Sequence[JoinedMachine], effects: Sequence[Effect], by_cpu: Mapping[str, Sequence[Measured]]
) -> list[str]:
    lines = []
    if len(machines) == 1:
        lines.append("all runs are of one CPU model: `compare` says how they differ")
    for i, machine in enumerate(machines):
        measured = [effect for effect in effects if effect.sizes[i] is not None]
        if not measured:
            lines.append(f"{machine.cpu} measured none of these effects")
        elif machine.trusted and all(i in effect.unresolved for effect in measured):
            lines.append(
                f"{machine.cpu} resolves none of its {len(measured)} effects: give it more --processes"
            )
    codes: dict[str, dict[str, set[str]]] = {}
    for runs in by_cpu.values():
        for variant, code in runs[0].run.header.variants.items():
            for probe, loop in code.probes.items():
                codes.setdefault(variant, {}).setdefault(probe, set()).add(loop.code)
    named = {name.partition("@")[0] for effect in effects for name in (effect.before, effect.after)}
    other = [name for name in sorted(named) if any(len(each) > 1 for each in codes.get(name, {}).values())]
    if other:
        lines.append(f"other machine code on other machines: {', '.join(other)}")
    return lines

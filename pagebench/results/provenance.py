"""What is not alike in two runs beside their numbers: machine, kernel, compiler, flags, plan.

Times of two CPU models are not compared: identical binaries have read +96 % on another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pagebench.errors import PagebenchError
from pagebench.host.machine import Machine
from pagebench.results.change import Differs
from pagebench.results.lines import Header
from pagebench.results.result_file import Run
from pagebench.units import format_size

# A core clock that differs by more than this is said.
SAME_CLOCK = 0.02


def cpu(machine: Machine) -> str:
    """The CPU model: its name, and the numbers that tell models of one name apart."""
    numbers = [
        f"{name} {value}"
        for name, value in (("family", machine.family), ("model", machine.model))
        if value is not None
    ]
    return ", ".join([machine.cpu_model, *numbers])


def _known(machine: Machine) -> bool:
    """Whether a CPU says which one it is."""
    return machine.cpu_model != "unknown" or machine.model is not None


@dataclass(frozen=True, slots=True)
class _Row:
    of: Callable[[Run], str]
    refused: bool = False


def _text(value: object) -> str:
    return "unknown" if value is None else str(value)


def _l3(run: Run) -> str:
    return format_size(run.plan.levels.l3_bytes) if run.header.calibration else "not measured"


def _caches(run: Run) -> str:
    caches = run.header.machine.caches
    sizes = (caches.l1d_bytes, caches.l2_bytes, caches.l3_bytes)
    return ", ".join("unknown" if size is None else format_size(size) for size in sizes)


ROWS: Mapping[str, _Row] = {
    "architecture": _Row(lambda run: run.header.machine.architecture, refused=True),
    "CPU model": _Row(lambda run: cpu(run.header.machine), refused=True),
    "stepping": _Row(lambda run: _text(run.header.machine.stepping)),
    "CPU": _Row(lambda run: str(run.header.machine.cpu)),
    "hypervisor": _Row(lambda run: run.header.machine.hypervisor or "none seen"),
    "caches": _Row(_caches),
    "base pages": _Row(lambda run: format_size(run.header.machine.base_page_bytes)),
    "CPUs online": _Row(lambda run: _text(run.header.machine.online_cpus)),
    "SMT": _Row(lambda run: _text(run.header.machine.smt_active)),
    "clock source": _Row(lambda run: _text(run.header.machine.clocksource)),
    "THP defrag": _Row(lambda run: _text(run.header.machine.thp_defrag)),
    "margin": _Row(lambda run: f"{run.plan.margin_cycles:g} cycles"),
    "SMT sibling": _Row(lambda run: _text(run.header.machine.thread_siblings)),
    "governor": _Row(lambda run: _text(run.header.machine.governor)),
    "turbo": _Row(lambda run: _text(run.header.machine.turbo)),
    "THP": _Row(lambda run: _text(run.header.machine.thp_enabled)),
    "kernel": _Row(lambda run: run.header.machine.kernel_release),
    "kernel build": _Row(lambda run: run.header.machine.kernel_version),
    "mitigations": _Row(
        lambda run: ", ".join(f"{k}: {v}" for k, v in run.header.machine.mitigations.items())
    ),
    "clock": _Row(lambda run: run.header.clock.kind),
    "L3 measured": _Row(_l3),
    "compiler": _Row(lambda run: run.header.compiler.name),
    "flags": _Row(lambda run: run.header.compiler.cflags),
    "pagebench": _Row(
        lambda run: f"{run.header.tool.version} ({run.header.tool.commit or 'unknown commit'})"
    ),
    "reference": _Row(lambda run: run.plan.reference),
    "rounds": _Row(lambda run: str(run.plan.rounds)),
}

# What cells mean: with another one of these there is no cell in common.
MEANING: Mapping[str, Callable[[Run], str]] = {
    "struct page": lambda run: f"{run.plan.struct_page_bytes} bytes",
    "memory model": lambda run: _text(run.plan.memory_model or "none"),
    "folios": lambda run: run.plan.folios.sha256[:16] if run.plan.folios else "of one order",
}


def differs(before: Run, after: Run) -> list[Differs]:
    """What is not alike, what is refused first.

    Raises PagebenchError where cells of one name mean different things.
    """
    for what, of in MEANING.items():
        if of(before) != of(after):
            raise PagebenchError(
                f"{before.path} and {after.path} have no cell in common: {what} is {of(before)} in the "
                f"one, {of(after)} in the other"
            )
    found = [
        Differs(what, *(_flags if what == "flags" else _both)(row.of(before), row.of(after)), row.refused)
        for what, row in ROWS.items()
        if row.of(before) != row.of(after)
    ]
    if not _known(before.header.machine):
        unknown = cpu(before.header.machine)
        found.append(Differs("CPU model", f"{unknown}, which says nothing", f"{unknown}", refused=True))
    ghz = before.median_ghz, after.median_ghz
    if abs(ghz[1] / ghz[0] - 1) > SAME_CLOCK:
        found.append(Differs("core clock", f"{ghz[0]:.2f} GHz", f"{ghz[1]:.2f} GHz"))
    found += _sources(before.header, after.header)
    return sorted(found, key=lambda one: not one.refused)


def _both(before: str, after: str) -> tuple[str, str]:
    return before, after


def _flags(before: str, after: str) -> tuple[str, str]:
    """Of a compiler's flags those that the other one has not, or what else is not alike."""
    first, second = before.split(), after.split()
    only = [
        " ".join(word for word in dict.fromkeys(a) if word not in b)
        for a, b in ((first, second), (second, first))
    ]
    if only == ["", ""]:
        return "the same flags", "in another order or number"
    return only[0] or "none of these", only[1] or "none of these"


def _sources(before: Header, after: Header) -> list[Differs]:
    """What variants from elsewhere were compiled from, and by what."""
    found = []
    for name in before.variants.keys() & after.variants.keys():
        first, second = before.variants[name], after.variants[name]
        for what in ("version", "source", "cflags"):
            old, new = getattr(first, what) or "none", getattr(second, what) or "none"
            if old != new:
                sides = _flags(old, new) if what == "cflags" else (old, new)
                found.append(Differs(f"{name}, {what}", *sides))
    return sorted(found, key=lambda one: one.what)


def check_comparable(before: Run, after: Run, found: list[Differs], force: bool) -> None:
    """Refuse what cannot be compared.  Raises PagebenchError."""
    refused = [one for one in found if one.refused]
    if refused and not force:
        one = refused[-1]  # the model says more than its architecture
        raise PagebenchError(
            f"{before.path} and {after.path} are of different machines: {one.what} is {one.before!r} in the "
            f"one, {one.after!r} in the other; `join` sets machines side by side, --force compares anyway"
        )

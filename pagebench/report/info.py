"""The running kernel, and what of the tool corresponds to it: text (75 columns, ASCII) and JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from pagebench.host.btf import Struct
from pagebench.host.machine import Machine
from pagebench.host.running_kernel import HUGE_PAGES, PARAMETER, Finding, Pool, RunningKernel
from pagebench.plan.counterparts import Counterpart, Suggestion
from pagebench.report import WIDTH
from pagebench.units import format_size

LABEL = 15
# What of the config decides how struct pages are encoded, laid out and allocated.
CONFIG_OPTIONS = (
    *("64BIT", "PAGE_SHIFT", "FLATMEM", "SPARSEMEM", "SPARSEMEM_VMEMMAP", "MEMORY_HOTPLUG", "MEMCG", "KMSAN"),
    *("TRANSPARENT_HUGEPAGE", "HUGETLB_PAGE", "HUGETLB_PAGE_OPTIMIZE_VMEMMAP"),
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON",
)
NOW = {True: "now", False: "not now", None: "unknown"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Info:
    """The machine and its kernel as they were found, what corresponds to them, and by which ``tool``."""

    tool: Mapping[str, str]
    machine: Machine
    running: RunningKernel
    counterparts: Sequence[Counterpart]
    suggestion: Suggestion


def _members(struct: Struct) -> list[dict[str, Any]]:
    return [
        {"name": member.name, "offset_bytes": member.offset_bytes, "size_bytes": member.size_bytes}
        | ({"offset_bits": member.offset_bits % 8, "bits": member.bits} if member.bits else {})
        for member in struct.members
    ]


def to_json(info: Info) -> dict[str, Any]:
    """Everything, for machines: each finding with how it was found, units in the keys."""
    running = info.running
    kernel = dataclasses.asdict(running)
    page, config = running.struct_page, running.config
    kernel["struct_page"] = {
        "value": page.value and {"size_bytes": page.value.size_bytes, "members": _members(page.value)},
        "how": page.how,
    }
    if config.value is not None:
        kernel["config"]["value"] = {name: config.value.get(name) for name in CONFIG_OPTIONS}
    for pool, of in zip(kernel["pools"], running.pools, strict=True):
        pool["order"] = running.order_of(of)
    return {
        "tool": dict(info.tool),
        "machine": dataclasses.asdict(info.machine),
        "kernel": kernel,
        "counterparts": [dataclasses.asdict(counterpart) for counterpart in info.counterparts],
        "options": dataclasses.asdict(info.suggestion),
    }


def _field(label: str, text: str) -> list[str]:
    """A label and its text, wrapped beside it."""
    ascii_text = text.encode("ascii", "replace").decode()
    wrapped = textwrap.wrap(ascii_text, WIDTH - LABEL - 3, break_on_hyphens=False)
    return [f"  {label if i == 0 else '':{LABEL}} {line}" for i, line in enumerate(wrapped or ["-"])]


def _finding(label: str, finding: Finding[T], said: str | None = None) -> list[str]:
    """A finding: its value (``said`` if that says it better) and how it was found."""
    if finding.value is None:
        return _field(label, f"unknown ({finding.how})")
    value = finding.value
    if isinstance(value, bool):
        said = said or ("yes" if value else "no")
    return _field(label, f"{value if said is None else said} ({finding.how})")


def _config(running: RunningKernel) -> list[str]:
    config = running.config
    if config.value is None:
        return _finding("config", config)
    unset = ", ".join(name for name in CONFIG_OPTIONS if name not in config.value)
    on = ", ".join(f"{name}={config.value[name]}" for name in CONFIG_OPTIONS if name in config.value)
    return _finding("config", config, f"{on}; not set: {unset or 'none'}")


def _pool(running: RunningKernel, pool: Pool) -> list[str]:
    number = {
        key: "?" if value is None else str(value) for key, value in {**pool.counts, **pool.nodes}.items()
    }
    text = (
        f"{number['nr']} of order {running.order_of(pool)} "
        f"({number['free']} free, {number['resv']} reserved, {number['surplus']} surplus "
        f"of at most {number['nr_overcommit']})"
    )
    nodes = ", ".join(f"{node} {number[node]}" for node in pool.nodes)
    return _field(f"{format_size(pool.page_bytes)} pages", f"{text}; {nodes}" if nodes else text)


def _struct_page(page: Finding[Struct]) -> list[str]:
    if page.value is None:
        return _finding("struct page", page)
    lines = _finding("struct page", page, f"{page.value.size_bytes} bytes")
    members = sorted(page.value.members, key=lambda member: member.offset_bytes)
    for offset, group in groupby(members, key=lambda member: member.offset_bytes):
        lines += _field(f"{offset:>5}", ", ".join(member.name for member in group))
    return lines


def _machine(machine: Machine) -> list[str]:
    sizes = zip(("L1d", "L2", "L3"), dataclasses.astuple(machine.caches)[:3], strict=True)
    caches = ", ".join(f"{name} {format_size(size)}" for name, size in sizes if size)
    memory = "unknown" if machine.memory_bytes is None else format_size(machine.memory_bytes)
    where = machine.hypervisor or "no sign of one"
    return [
        *_field(
            "cpu", f"{machine.cpu_model}, {machine.architecture}, CPUs {machine.online_cpus or 'unknown'}"
        ),
        *_field("caches", caches or "unknown"),
        *_field("memory", f"{memory}, THP {machine.thp_enabled or 'unknown'}"),
        *_field("hypervisor", where),
    ]


def _correspondence(info: Info) -> list[str]:
    suggestion, size = info.suggestion, info.suggestion.struct_page_bytes
    lines = [f"  {row.contender:22} {NOW[row.now]:8} {row.pages}" for row in info.counterparts]
    lines = [*(lines or _field("contenders", f"unknown ({info.running.encoding.how})")), ""]
    for label, text in (
        ("--struct-page", "unknown" if size is None else str(size)),
        ("--base-page", format_size(suggestion.base_page_bytes)),
        ("--orders", ",".join(map(str, suggestion.orders))),
        ("--max-order", str(suggestion.max_order)),
        ("--memory-model", " or ".join(suggestion.memory_models) or "unknown"),
    ):
        lines += _field(label, text)
    for command in suggestion.commands:
        lines += ["", *_command(f"python -m pagebench {command}")]
    return lines


def _command(text: str) -> list[str]:
    """Over several lines, as a shell takes it."""
    wrapped = textwrap.wrap(text, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    lines = [f"{'  ' if i == 0 else '    '}{line}" for i, line in enumerate(wrapped)]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def render(info: Info) -> str:
    """What is known and how, what is not and why."""
    running, hvo = info.running, info.running.hvo
    given = f"{PARAMETER}={hvo.parameter.value}" if hvo.parameter.value else f"{PARAMETER} not given"
    sections: Sequence[tuple[str, list[str]]] = (
        ("machine", _machine(info.machine)),
        (
            "kernel",
            [
                *_field("release", f"{running.release.value or 'unknown'} {running.version.value or ''}"),
                *_finding("compiler", running.compiler),
                *_config(running),
                *_finding("memory model", running.memory_model),
                *_field("base page", format_size(running.base_page_bytes)),
                *_finding("MAX_PAGE_ORDER", running.max_page_order),
                *_finding("MAX_FOLIO_ORDER", running.max_folio_order),
            ],
        ),
        (
            "huge pages",
            [line for pool in running.pools for line in _pool(running, pool)] or [f"  none in /{HUGE_PAGES}"],
        ),
        (
            "HVO, the HugeTLB vmemmap optimization",
            [
                *_finding("compiled in", hvo.compiled_in),
                *_finding("boot option", hvo.parameter, given),
                *_finding("on", hvo.on),
                *_finding("in use", hvo.in_use),
            ],
        ),
        ("compound_head()", [*_finding("encoding", running.encoding), *_struct_page(running.struct_page)]),
        ("what this kernel runs, as contenders", _correspondence(info)),
    )
    return "\n\n".join("\n".join([title, *lines]) for title, lines in sections) + "\n"

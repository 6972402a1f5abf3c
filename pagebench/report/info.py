"""The running kernel, and the tool's options that correspond to it: text (75 columns, ASCII) and JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from pagebench import tool
from pagebench.host.btf import Struct
from pagebench.host.machine import Machine
from pagebench.host.running_kernel import HUGE_PAGES, PARAMETER, Finding, Pool, RunningKernel
from pagebench.memmap.models import BASE_PAGES
from pagebench.names import BUILT_IN_STRUCT_PAGES, STRUCT_PAGES
from pagebench.units import format_size

COLUMNS = 75
LABEL = 15
# What of the config decides how struct pages are encoded, laid out and allocated.
OPTIONS = (
    *("64BIT", "PAGE_SHIFT", "FLATMEM", "SPARSEMEM", "SPARSEMEM_VMEMMAP", "MEMORY_HOTPLUG", "MEMCG", "KMSAN"),
    *("TRANSPARENT_HUGEPAGE", "HUGETLB_PAGE", "HUGETLB_PAGE_OPTIMIZE_VMEMMAP"),
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON",
)
# To be compared with what the kernel runs: the other encoding, in the layouts that it has.
RIVALS = {"pointer": ("branchless", "branchless@hvo-shared"), "mask": ("pointer-branch", "fakehead@hvo")}
NOW = {True: "now", False: "not now", None: "unknown"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A contender and the pages whose lookup it is; ``now`` is None where that is not known."""

    contender: str
    pages: str
    now: bool | None


def counterparts(kernel: RunningKernel) -> list[Counterpart]:
    """The contenders that are this kernel's compound_head(), first the one that most pages have.

    The jump label of the static key's site keeps the tail test of such a kernel a branch.
    """
    in_use, compiled_in = kernel.hvo.in_use.value, kernel.hvo.compiled_in.value
    if kernel.encoding.value == "mask":
        return [
            Counterpart("branchless@plain", "pages that HVO did not touch", True),
            Counterpart("branchless@hvo-shared", "huge pages that HVO optimized", in_use),
        ]
    if kernel.encoding.value != "pointer":
        return []
    if kernel.word.value == "compound_info" or compiled_in is False:
        return [Counterpart("pointer@plain", "every page", True)]
    found = [
        Counterpart("pointer-branch@plain", "every page, HVO's static key off", _not(in_use)),
        Counterpart("fakehead@plain", "pages that HVO did not touch, key on", in_use),
        Counterpart("fakehead@hvo", "huge pages that HVO optimized, key on", in_use),
    ]
    return [*found[1:], found[0]] if in_use else found


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _models(kernel: RunningKernel, machine: Machine) -> list[str]:
    """The kernel's memory model by the names of `align`: which it is may depend on how memory came."""
    if kernel.memory_model.value == "SPARSEMEM_VMEMMAP":
        aligned = machine.architecture == "x86_64" or kernel.word.value == "compound_info"
        return ["vmemmap" if aligned else "vmemmap-pmd"]
    return {"SPARSEMEM": ["sparsemem-boot", "sparsemem"], "FLATMEM": ["flatmem"]}.get(
        kernel.memory_model.value or "", []
    )


def options(kernel: RunningKernel, machine: Machine) -> dict[str, Any]:
    """What to give the tool for this kernel, as values and as commands."""
    size = kernel.struct_page.value.size_bytes if kernel.struct_page.value else None
    base = kernel.base_page_bytes
    orders = [0, *(kernel.order_of(pool) for pool in kernel.pools)]
    largest = max([*orders, kernel.max_page_order.value or 0, kernel.max_folio_order.value or 0])
    contenders = [found.contender.removesuffix("@plain") for found in counterparts(kernel)]
    contenders += [name for name in RIVALS.get(kernel.encoding.value or "", ()) if name not in contenders]
    commands = []
    if size is not None and size in STRUCT_PAGES and contenders:
        if size & (size - 1):  # no HVO
            contenders = [name for name in contenders if "@" not in name]
        names, list_of_orders = ",".join(contenders), ",".join(map(str, orders))
        commands.append(f"run --struct-page {size} --contenders {names} --orders {list_of_orders}")
    if size in BUILT_IN_STRUCT_PAGES and base in [page.bytes for page in BASE_PAGES]:
        commands.append(f"align --base-page {format_size(base)} --struct-page {size}")
    return {
        "struct_page_bytes": size,
        "base_page_bytes": base,
        "orders": orders,
        "max_order": largest,
        "memory_models": _models(kernel, machine),
        "commands": commands,
    }


def _members(struct: Struct) -> list[dict[str, Any]]:
    return [
        {"name": member.name, "offset_bytes": member.offset_bytes, "size_bytes": member.size_bytes}
        | ({"offset_bits": member.offset_bits % 8, "bits": member.bits} if member.bits else {})
        for member in struct.members
    ]


def to_json(kernel: RunningKernel, machine: Machine) -> dict[str, Any]:
    """Everything, for machines: each finding with how it was found, units in the keys."""
    found = dataclasses.asdict(kernel)
    page, config = kernel.struct_page, kernel.config
    found["struct_page"] = {
        "value": page.value and {"size_bytes": page.value.size_bytes, "members": _members(page.value)},
        "how": page.how,
    }
    if config.value is not None:
        found["config"]["value"] = {name: config.value.get(name) for name in OPTIONS}
    for pool, of in zip(found["pools"], kernel.pools, strict=True):
        pool["order"] = kernel.order_of(of)
    return {
        "tool": tool.identity(),
        "machine": dataclasses.asdict(machine),
        "kernel": found,
        "counterparts": [dataclasses.asdict(counterpart) for counterpart in counterparts(kernel)],
        "options": options(kernel, machine),
    }


def _field(label: str, text: str) -> list[str]:
    """A label and its text, wrapped beside it."""
    ascii_text = text.encode("ascii", "replace").decode()
    wrapped = textwrap.wrap(ascii_text, COLUMNS - LABEL - 3, break_on_hyphens=False)
    return [f"  {label if i == 0 else '':{LABEL}} {line}" for i, line in enumerate(wrapped or ["-"])]


def _found(label: str, found: Finding[T], said: str | None = None) -> list[str]:
    """A finding: its value (``said`` if that says it better) and how it was found."""
    if found.value is None:
        return _field(label, f"unknown ({found.how})")
    value = {True: "yes", False: "no"}.get(found.value) if isinstance(found.value, bool) else found.value
    return _field(label, f"{value if said is None else said} ({found.how})")


def _config(kernel: RunningKernel) -> list[str]:
    config = kernel.config
    if config.value is None:
        return _found("config", config)
    unset = ", ".join(name for name in OPTIONS if name not in config.value)
    on = ", ".join(f"{name}={config.value[name]}" for name in OPTIONS if name in config.value)
    return _found("config", config, f"{on}; not set: {unset or 'none'}")


def _pool(kernel: RunningKernel, pool: Pool) -> list[str]:
    number = {
        key: "?" if value is None else str(value) for key, value in {**pool.counts, **pool.nodes}.items()
    }
    text = (
        f"{number['nr']} of order {kernel.order_of(pool)} ({number['free']} free, {number['resv']} reserved, "
        f"{number['surplus']} surplus of at most {number['nr_overcommit']})"
    )
    nodes = ", ".join(f"{node} {number[node]}" for node in pool.nodes)
    return _field(f"{format_size(pool.page_bytes)} pages", f"{text}; {nodes}" if nodes else text)


def _struct_page(page: Finding[Struct]) -> list[str]:
    if page.value is None:
        return _found("struct page", page)
    lines = _found("struct page", page, f"{page.value.size_bytes} bytes")
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


def _correspondence(kernel: RunningKernel, machine: Machine) -> list[str]:
    asked = options(kernel, machine)
    lines = [f"  {row.contender:22} {NOW[row.now]:8} {row.pages}" for row in counterparts(kernel)]
    lines = [*(lines or _field("contenders", f"unknown ({kernel.encoding.how})")), ""]
    size = asked["struct_page_bytes"]
    for label, text in (
        ("--struct-page", "unknown" if size is None else str(size)),
        ("--base-page", format_size(asked["base_page_bytes"])),
        ("--orders", ",".join(map(str, asked["orders"]))),
        ("--max-order", str(asked["max_order"])),
        ("--memory-model", " or ".join(asked["memory_models"]) or "unknown"),
    ):
        lines += _field(label, text)
    for command in asked["commands"]:
        lines += ["", *_command(f"python -m pagebench {command}")]
    return lines


def _command(text: str) -> list[str]:
    """Over several lines, as a shell takes it."""
    wrapped = textwrap.wrap(text, COLUMNS - 6, break_long_words=False, break_on_hyphens=False)
    lines = [f"{'  ' if i == 0 else '    '}{line}" for i, line in enumerate(wrapped)]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def render(kernel: RunningKernel, machine: Machine) -> str:
    """What is known and how, what is not and why."""
    hvo = kernel.hvo
    given = f"{PARAMETER}={hvo.parameter.value}" if hvo.parameter.value else f"{PARAMETER} not given"
    sections: Sequence[tuple[str, list[str]]] = (
        ("machine", _machine(machine)),
        (
            "kernel",
            [
                *_field("release", f"{kernel.release.value or 'unknown'} {kernel.version.value or ''}"),
                *_found("compiler", kernel.compiler),
                *_config(kernel),
                *_found("memory model", kernel.memory_model),
                *_field("base page", format_size(kernel.base_page_bytes)),
                *_found("MAX_PAGE_ORDER", kernel.max_page_order),
                *_found("MAX_FOLIO_ORDER", kernel.max_folio_order),
            ],
        ),
        (
            "huge pages",
            [line for pool in kernel.pools for line in _pool(kernel, pool)] or [f"  none in /{HUGE_PAGES}"],
        ),
        (
            "HVO, the HugeTLB vmemmap optimization",
            [
                *_found("compiled in", hvo.compiled_in),
                *_found("boot option", hvo.parameter, given),
                *_found("on", hvo.on),
                *_found("in use", hvo.in_use),
            ],
        ),
        ("compound_head()", [*_found("encoding", kernel.encoding), *_struct_page(kernel.struct_page)]),
        ("what this kernel runs, as contenders", _correspondence(kernel, machine)),
    )
    return "\n\n".join("\n".join([title, *lines]) for title, lines in sections) + "\n"

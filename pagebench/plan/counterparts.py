"""What of the tool corresponds to the running kernel: contenders that are its lookup, options, commands."""

from __future__ import annotations

from dataclasses import dataclass

from pagebench import names
from pagebench.host.machine import Machine
from pagebench.host.running_kernel import RunningKernel
from pagebench.memmap.models import BASE_PAGES
from pagebench.plan.groups import Contender
from pagebench.plan.questions import SERIES, Question, of_family
from pagebench.units import format_size


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A contender and the pages whose lookup it is; ``now`` is None where that is not known."""

    contender: str
    pages: str
    now: bool | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to give the tool for this kernel, as values and as commands (without ``python -m pagebench``).

    ``memory_models``: which one it is may depend on how memory came.
    """

    struct_page_bytes: int | None
    base_page_bytes: int
    orders: tuple[int, ...]
    max_order: int
    memory_models: tuple[str, ...]
    commands: tuple[str, ...]


def counterparts(running: RunningKernel) -> list[Counterpart]:
    """The contenders that are this kernel's compound_head(), first the one that most pages have.

    A kernel of pointers is what the series' questions have before, one of masks what they have after.
    The jump label of the static key's site keeps the tail test of the former a branch.
    """
    if running.encoding.value == "mask":
        return _of_mask(running.hvo.in_use.value)
    if running.encoding.value != "pointer":
        return []
    if running.word.value == "compound_info" or running.hvo.compiled_in.value is False:
        return [Counterpart("pointer@plain", "every page", True)]
    return _of_pointer(running.hvo.in_use.value)


def _of_mask(in_use: bool | None) -> list[Counterpart]:
    by_contender: dict[str, Counterpart] = {}
    for question in of_family(SERIES):
        contender = Contender.parse(question.after)
        now = in_use if names.LAYOUTS[contender.layout].aliased else True
        by_contender.setdefault(question.after, Counterpart(str(contender), question.which, now))
    return list(by_contender.values())


def _of_pointer(in_use: bool | None) -> list[Counterpart]:
    def now(question: Question) -> bool | None:
        return None if in_use is None else in_use == question.key_on

    rows = [Counterpart(str(Contender.parse(q.before)), q.pages, now(q)) for q in of_family(SERIES)]
    return sorted(rows, key=lambda row: row.now is False)


def _rivals(running: RunningKernel) -> list[str]:
    """To be compared with what the kernel runs: the other encoding, in the layouts that it has."""
    encoding = running.encoding.value
    if encoding is None:
        return []
    return [question.after if encoding == "pointer" else question.before for question in of_family(SERIES)]


def _models(running: RunningKernel, machine: Machine) -> tuple[str, ...]:
    """The kernel's memory model by the names of `align`."""
    if running.memory_model.value == "SPARSEMEM_VMEMMAP":
        aligned = machine.architecture == "x86_64" or running.word.value == "compound_info"
        return ("vmemmap" if aligned else "vmemmap-pmd",)
    return {"SPARSEMEM": ("sparsemem-boot", "sparsemem"), "FLATMEM": ("flatmem",)}.get(
        running.memory_model.value or "", ()
    )


def suggest(running: RunningKernel, machine: Machine) -> Suggestion:
    """What to give the tool for this kernel."""
    size = running.struct_page.value.size_bytes if running.struct_page.value else None
    base = running.base_page_bytes
    orders = (0, *(running.order_of(pool) for pool in running.pools))
    largest = max(*orders, running.max_page_order.value or 0, running.max_folio_order.value or 0)
    own = [counterpart.contender.removesuffix(f"@{names.PLAIN}") for counterpart in counterparts(running)]
    contenders = list(dict.fromkeys([*own, *_rivals(running)]))
    commands = []
    if size is not None and size in names.STRUCT_PAGES and contenders:
        if size & (size - 1):  # no HVO
            contenders = [name for name in contenders if "@" not in name]
        texts, list_of_orders = ",".join(contenders), ",".join(map(str, orders))
        commands.append(f"run --struct-page {size} --contenders {texts} --orders {list_of_orders}")
    if size in names.BUILT_IN_STRUCT_PAGES and base in [page.bytes for page in BASE_PAGES]:
        commands.append(f"align --base-page {format_size(base)} --struct-page {size}")
    return Suggestion(size, base, orders, largest, _models(running, machine), tuple(commands))

"""Memory models against orders, proven: text (75 columns, ASCII, ready for a mail), JSON, a figure."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagebench import __version__, tool
from pagebench.memmap.models import BASE_PAGES, MODELS, NO_FOLIO, OK, WRONG, has_mask
from pagebench.prove import MASK, Proof
from pagebench.units import format_size
from pagebench.variants import registry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 75
_PAGES = {page.bytes: page for page in BASE_PAGES}
_MODELS = {model.name: model for model in MODELS}
HEADINGS = f"{'model':17} promised needed  {'ok':5}  {'wrong':5}  {'none':5} safe  {'v7.1':7}  proof"
_OF_PROOF = ("base_page_bytes", "struct_page_bytes", "model", "encoding", "promised_bytes")
_OF_ROW = ("needed_bytes", "highest_safe_order", "max_folio_vmemmap_align_bytes", "kernel", "safe")
COLUMN_NOTES = {
    "promised": "the memmap's alignment: it was placed at that and no more",
    "needed": "sizeof(struct page) << order for the largest folio",
    "ok, wrong": "orders whose every head, or not every head, was found",
    "none": "orders with no such folio: it would cross a section",
    "safe": "the highest order up to which every head was found",
    "v7.1": "the kernel's choice: the mask where HVO is possible, with a warning "
    "where the promise is below MAX_FOLIO_VMEMMAP_ALIGN; else the pointer",
    "proof": "whether the mask would do: every head of every folio found; ?: not all looked at",
}


@dataclass(frozen=True, slots=True)
class Row:
    """The proofs of one memory model, by order, for a base page and a struct page."""

    proofs: tuple[Proof, ...]

    @property
    def first(self) -> Proof:
        """For what all of them have in common."""
        return self.proofs[0]

    def orders(self, found: str) -> list[int]:
        """The orders where that was found."""
        return [proof.order for proof in self.proofs if proof.found == found]

    @property
    def highest_safe_order(self) -> int | None:
        """The highest order up to which every head was found."""
        first = min((proof.order for proof in self.proofs if proof.found != OK), default=len(self.proofs))
        return first - 1 if first else None

    @property
    def largest_order(self) -> int:
        """The order of the largest folio that the model has."""
        page = _PAGES[self.first.base_page_bytes]
        sectioned = _MODELS[self.first.model].sectioned
        return min(page.max_folio_order, page.pfn_section_shift) if sectioned else page.max_folio_order

    @property
    def needed_bytes(self) -> int:
        """The alignment that the mask needs for the largest folio."""
        return self.first.struct_page_bytes << self.largest_order

    @property
    def safe(self) -> bool | None:
        """Whether every head of every folio was found; None if larger ones were not looked at."""
        if self.orders(WRONG):
            return False
        return True if self.proofs[-1].order >= self.largest_order else None

    @property
    def proven(self) -> str:
        """What the proof allows: ``mask`` or ``no``, ``?`` for not known; ``-`` where the pointer stays."""
        return "-" if self.first.encoding == "pointer" else {True: "mask", False: "no", None: "?"}[self.safe]

    @property
    def max_folio_vmemmap_align_bytes(self) -> int:
        """MAX_FOLIO_VMEMMAP_ALIGN."""
        return _PAGES[self.first.base_page_bytes].max_folio_vmemmap_align(self.first.struct_page_bytes)

    @property
    def kernel(self) -> str:
        """What v7.1 does: ``mask``, the mask with a ``warning`` from sparse_init(), or ``pointer``."""
        if not _MODELS[self.first.model].vmemmap or not has_mask(self.first.struct_page_bytes):
            return "pointer"
        return "mask" if self.first.promised_bytes >= self.max_folio_vmemmap_align_bytes else "warning"


@dataclass(frozen=True, slots=True)
class Block:
    """A row for each model: a base page, and the struct pages of which that is true."""

    base_page_bytes: int
    struct_pages: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Base page, struct pages, encoding."""
        page, sizes = format_size(self.base_page_bytes), " or ".join(map(str, self.struct_pages))
        return f"base page {page}, struct page {sizes} bytes: {self.rows[0].first.encoding}"


def rows_of(proofs: Iterable[Proof]) -> list[Row]:
    """One for each base page, struct page and model, in order of appearance."""
    of = groupby(proofs, lambda proof: (proof.base_page_bytes, proof.struct_page_bytes, proof.model))
    return [Row(tuple(group)) for _, group in of]


def blocks_of(proofs: Iterable[Proof]) -> list[Block]:
    """Rows by base and struct page; struct pages that keep the pointer share one where they agree."""
    blocks: dict[tuple[Any, ...], Block] = {}
    both = groupby(rows_of(proofs), lambda row: (row.first.base_page_bytes, row.first.struct_page_bytes))
    for (page, size), group in both:
        rows = tuple(group)
        found = tuple(proof.found for row in rows for proof in row.proofs)
        key = page, has_mask(size) and size, found
        before = blocks[key].struct_pages if key in blocks else ()
        blocks[key] = Block(page, (*before, size), rows)
    return list(blocks.values())


def disagreements(proofs: Iterable[Proof]) -> list[str]:
    """Where a proof did not find what the arithmetic says."""
    return [
        f"{proof.model}, order {proof.order}, base page {format_size(proof.base_page_bytes)}, struct page "
        f"{proof.struct_page_bytes} bytes: found {proof.found!r}, expected {proof.expected!r}"
        for proof in proofs
        if proof.found != proof.expected
    ]


def to_json(proofs: Sequence[Proof]) -> dict[str, Any]:
    """Everything, for machines: units in the keys."""
    variant = registry.find(MASK, proofs[0].struct_page_bytes)
    return {
        "tool": {"name": "pagebench", "version": __version__, "commit": tool.commit()},
        "variant": {key: getattr(variant, key) for key in ("name", "commit", "subject", "version")},
        "models": [{key: getattr(model, key) for key in ("name", "origin", "sectioned")} for model in MODELS],
        "base_pages": [
            {"base_page_bytes": page.bytes}
            | {key: getattr(page, key) for key in ("max_folio_order", "pfn_section_shift", "pmd_bytes")}
            for page in BASE_PAGES
        ],
        "rows": [
            {key: getattr(row.first, key) for key in _OF_PROOF}
            | {f"{found.replace(' ', '_')}_orders": row.orders(found) for found in (OK, WRONG, NO_FOLIO)}
            | {key: getattr(row, key) for key in _OF_ROW}
            for row in rows_of(proofs)
        ],
        "proofs": [dataclasses.asdict(proof) | {"agrees": proof.found == proof.expected} for proof in proofs],
        "disagreements": disagreements(proofs),
    }


def _ranges(orders: Sequence[int]) -> str:
    """``0-15,17`` for ascending orders, ``-`` for none."""
    runs = [list(run) for _, run in groupby(orders, lambda order: order - orders.index(order))]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "-"


def _wrap(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent=" " * indent, break_on_hyphens=False)


def _wrong(proof: Proof) -> tuple[int, int]:
    """Wrong lookups of how many: of the tails, unless heads alone were not found."""
    if proof.wrong_heads and not proof.wrong_tails:
        return proof.wrong_heads, proof.heads
    return proof.wrong_tails, proof.tails


def _line(row: Row) -> str:
    proof, pointer = row.first, not has_mask(row.first.struct_page_bytes)
    promised, needed = ("-", "-") if pointer else map(format_size, (proof.promised_bytes, row.needed_bytes))
    ok, wrong, none = (_ranges(row.orders(found)) for found in (OK, WRONG, NO_FOLIO))
    safe = "-" if row.highest_safe_order is None else row.highest_safe_order
    return (
        f"{proof.model:17} {promised:>8} {needed:>6}  {ok:5}  {wrong:5}  {none:5} {safe:>4}  "
        f"{row.kernel:7}  {row.proven}"
    ).rstrip()


def _block(block: Block) -> list[str]:
    page, size = _PAGES[block.base_page_bytes], block.struct_pages[0]
    largest, section = page.bytes << page.max_folio_order, page.bytes << page.pfn_section_shift
    align = format_size(page.max_folio_vmemmap_align(size))
    rule = f"the kernel's rule: MAX_FOLIO_VMEMMAP_ALIGN = {size} << {page.max_folio_order} = {align}"
    top = block.rows[0].proofs[-1].order
    lines = [
        block.title,
        f"  folios up to order {page.max_folio_order} ({format_size(largest)}), "
        f"sections of order {page.pfn_section_shift} ({format_size(section)})",
        f"  {rule if has_mask(size) else 'no power of two: the pointer stays, which needs no alignment'}",
        *([f"  orders above {top} were not looked at"] if top < page.max_folio_order else []),
        "",
        HEADINGS,
        *map(_line, block.rows),
    ]
    wrong = [next(p for p in row.proofs if p.found == WRONG) for row in block.rows if row.orders(WRONG)]
    for i, proof in enumerate(wrong):
        bad, of = _wrong(proof)
        what = f"{proof.model} order {proof.order}, {bad} of {of} wrong"
        lines.append(f"  {'' if i else 'first wrong:':12} {what}")
    return [*lines, ""]


def render(proofs: Sequence[Proof]) -> str:
    """The report."""
    variant = registry.find(MASK, proofs[0].struct_page_bytes)
    looked_up = sum(proof.tails for proof in proofs)
    lines = _wrap(
        f"Where the mask encoding finds every head: {looked_up} tails looked up by `{variant.name}` "
        f"({variant.commit}, {variant.version}) over memmaps that have the alignment which the memory model "
        "promises and no more, each section's apart. Addresses alone decide, so base pages of any size can "
        "be proven here."
    )
    lines += ["", *(line for block in blocks_of(proofs) for line in _block(block))]
    for notes in (COLUMN_NOTES, {model.name: model.origin for model in MODELS}):
        lines += [line for name, text in notes.items() for line in _wrap(f"{name:17} {text}", 18)] + [""]
    wrong = disagreements(proofs)
    agree = f"{len(proofs) - len(wrong)} of {len(proofs)} proofs agree with the arithmetic"
    rule = "ok where sizeof(struct page) << order <= promised, no such folio above a section's order"
    lines += _wrap(f"{agree}: {rule}.")
    lines += [line for where in wrong for line in _wrap(f"  DISAGREE: {where}", 4)]
    return "\n".join(lines) + "\n"


# Okabe and Ito: sky blue, vermilion; the pointer's ok is paler, as nothing is at stake there.
_FILL = {"mask": "#56B4E9", "pointer": "#cfe8f7", WRONG: "#D55E00", NO_FOLIO: "#eeeeee"}
_LABELS = {
    "mask": "ok: the mask finds every head",
    "pointer": "ok: the pointer is kept",
    WRONG: "share of tails whose head is not found",
    NO_FOLIO: "no such folio (crosses a section)",
}


def _panel(axes: Axes, block: Block) -> None:
    """Draw a block: a square for each model and order."""
    from matplotlib.patches import Rectangle

    page = block.base_page_bytes
    for y, row in enumerate(block.rows):
        for proof in row.proofs:
            kind = proof.encoding if proof.found == OK else proof.found
            bad, looked_up = _wrong(proof)
            text = {OK: OK, NO_FOLIO: "\N{EN DASH}"}.get(proof.found) or f"{100 * bad / looked_up:.0f}%"
            at = (proof.order - 0.5, y - 0.5)
            axes.add_patch(Rectangle(at, 1, 1, facecolor=_FILL[kind], edgecolor="white", linewidth=1.2))
            colour = "white" if kind == WRONG else "black" if kind == "mask" else "#666666"
            axes.text(proof.order, y, text, ha="center", va="center", fontsize=6.5, color=colour)
    orders = [proof.order for proof in block.rows[0].proofs]
    axes.set_xlim(-0.5, orders[-1] + 0.5)
    axes.set_ylim(len(block.rows) - 0.5, -0.5)
    axes.set_xticks(orders, [f"{order}\n{format_size(page << order)}" for order in orders], fontsize=6.5)
    axes.set_yticks(range(len(block.rows)), [row.first.model for row in block.rows])
    axes.tick_params(axis="y", pad=34)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(block.title[0].upper() + block.title[1:], loc="left")
    _beside(axes, len(block.rows) + 0.15, "order\nfolio", "", "#666666")
    if block.rows[0].first.encoding == "mask":
        _beside(axes, -0.9, "promised", "v7.1 / proof", "#666666")
        for y, row in enumerate(block.rows):
            _beside(axes, y, format_size(row.first.promised_bytes), f"{row.kernel} / {row.proven}", "black")


def _beside(axes: Axes, y: float, left: str, right: str, colour: str) -> None:
    """Write on both sides of a row."""
    for x, text, align in ((0, left, "right"), (1, right, "left")):
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        at = (6 if x else -6, 0)
        axes.annotate(text, (x, y), at, ha=align, va="center", fontsize=7.5, color=colour, **place)


def figure(proofs: Sequence[Proof]) -> Figure:
    """Draw models against orders, a panel for each base page and its struct pages."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from pagebench.report import plots

    blocks = blocks_of(proofs)
    with plots._look():
        height = 0.9 + 2.15 * len(blocks)
        fig = Figure(figsize=(plots.WIDTH_INCHES, height))
        fig.set_layout_engine("constrained", rect=(0, 0.35 / height, 1, 1 - 0.35 / height), h_pad=0.08)
        for axes, block in zip(fig.subplots(len(blocks), 1, squeeze=False).flat, blocks, strict=True):
            _panel(axes, block)
        fig.suptitle("Where the mask encoding finds every head, by memory model and folio order", fontsize=12)
        kinds = {proof.encoding if proof.found == OK else proof.found for proof in proofs}
        handles = [Patch(color=_FILL[k], label=label) for k, label in _LABELS.items() if k in kinds]
        below: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0)}
        fig.legend(handles=handles, ncols=len(handles), handlelength=1.2, **below).set_in_layout(False)
    return fig


def save(proofs: Sequence[Proof], directory: Path) -> list[Path]:
    """Write the figure as ``align.png`` and ``align.svg``.  Raises OSError."""
    from pagebench.report import plots

    written = plots.save({"models": figure(proofs)}, directory, "align")
    return [path.replace(path.with_stem("align")) for path in written]

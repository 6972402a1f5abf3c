"""Memory models against orders, proven: text (75 columns, ASCII, ready for a mail) and JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pagebench.memmap.models import BASE_PAGES, MODELS, NO_FOLIO, OK, WRONG, has_mask
from pagebench.report import WIDTH
from pagebench.results.proofs import (
    ModelProofs,
    ProofTable,
    Proven,
    by_model,
    disagreements,
    tables_of,
)
from pagebench.units import format_size

_PAGES = {page.bytes: page for page in BASE_PAGES}
HEADINGS = f"{'model':17} promised needed  {'ok':5}  {'wrong':5}  {'none':5} safe  {'v7.1':7}  proof"
_OF_PROOF = ("base_page_bytes", "struct_page_bytes", "model", "encoding", "promised_bytes")
_OF_ROW = ("needed_bytes", "highest_safe_order", "max_folio_vmemmap_align_bytes", "kernels_choice", "safe")
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


def to_json(proven: Proven) -> dict[str, Any]:
    """Everything, for machines: units in the keys."""
    proofs = proven.proofs
    return {
        "tool": dict(proven.tool),
        "variant": {key: getattr(proven.variant, key) for key in ("name", "commit", "subject", "version")},
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
            for row in by_model(proofs)
        ],
        "proofs": [dataclasses.asdict(proof) | {"agrees": proof.found == proof.expected} for proof in proofs],
        "disagreements": disagreements(proofs),
    }


def _ranges(orders: Sequence[int]) -> str:
    """``0-15,17`` for ascending orders, ``-`` for none."""
    runs = [list(run) for _, run in groupby(orders, lambda order: order - orders.index(order))]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "-"


def _wrap(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _line(row: ModelProofs) -> str:
    proof, pointer = row.first, not has_mask(row.first.struct_page_bytes)
    promised, needed = ("-", "-") if pointer else map(format_size, (proof.promised_bytes, row.needed_bytes))
    ok, wrong, none = (_ranges(row.orders(found)) for found in (OK, WRONG, NO_FOLIO))
    safe = "-" if row.highest_safe_order is None else row.highest_safe_order
    return (
        f"{proof.model:17} {promised:>8} {needed:>6}  {ok:5}  {wrong:5}  {none:5} {safe:>4}  "
        f"{row.kernels_choice:7}  {row.allows}"
    ).rstrip()


def _table(table: ProofTable) -> list[str]:
    page, size = _PAGES[table.base_page_bytes], table.struct_pages[0]
    largest, section = page.bytes << page.max_folio_order, page.bytes << page.pfn_section_shift
    align = format_size(page.max_folio_vmemmap_align(size))
    rule = f"the kernel's rule: MAX_FOLIO_VMEMMAP_ALIGN = {size} << {page.max_folio_order} = {align}"
    top = table.rows[0].proofs[-1].order
    lines = [
        table.title,
        f"  folios up to order {page.max_folio_order} ({format_size(largest)}), "
        f"sections of order {page.pfn_section_shift} ({format_size(section)})",
        f"  {rule if has_mask(size) else 'no power of two: the pointer stays, which needs no alignment'}",
        *([f"  orders above {top} were not looked at"] if top < page.max_folio_order else []),
        "",
        HEADINGS,
        *map(_line, table.rows),
    ]
    wrong = [next(p for p in row.proofs if p.found == WRONG) for row in table.rows if row.orders(WRONG)]
    for i, proof in enumerate(wrong):
        bad, of = proof.wrong_of
        what = f"{proof.model} order {proof.order}, {bad} of {of} wrong"
        lines.append(f"  {'' if i else 'first wrong:':12} {what}")
    return [*lines, ""]


def render(proven: Proven) -> str:
    """The report."""
    proofs, variant = proven.proofs, proven.variant
    looked_up = sum(proof.tails for proof in proofs)
    lines = _wrap(
        f"Where the mask encoding finds every head: {looked_up} tails looked up by `{variant.name}` "
        f"({variant.commit}, {variant.version}) over memmaps that have the alignment which the memory model "
        "promises and no more, each section's apart. Addresses alone decide, so base pages of any size can "
        "be proven here."
    )
    lines += ["", *(line for table in tables_of(proofs) for line in _table(table))]
    for notes in (COLUMN_NOTES, {model.name: model.origin for model in MODELS}):
        lines += [line for name, text in notes.items() for line in _wrap(f"{name:17} {text}", 18)] + [""]
    wrong = disagreements(proofs)
    agree = f"{len(proofs) - len(wrong)} of {len(proofs)} proofs agree with the arithmetic"
    rule = "ok where sizeof(struct page) << order <= promised, no such folio above a section's order"
    lines += _wrap(f"{agree}: {rule}.")
    lines += [line for where in wrong for line in _wrap(f"  DISAGREE: {where}", 4)]
    return "\n".join(lines) + "\n"

"""What came of proving the memory models: a Proof for each order, by model, against the kernel's choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from pagebench.memmap.models import BASE_PAGES, MODELS, OK, WRONG, has_mask
from pagebench.names import Origin
from pagebench.units import format_size

_PAGES = {page.bytes: page for page in BASE_PAGES}
_MODELS = {model.name: model for model in MODELS}


@dataclass(frozen=True, slots=True)
class Proof:
    """One order of one model: ``found`` by looking every page up, ``expected`` by arithmetic.

    ``wrong_tails`` of ``tails`` and ``wrong_heads`` of ``heads`` lookups did not return the folio's head.
    """

    base_page_bytes: int
    struct_page_bytes: int
    model: str
    order: int
    encoding: str
    found: str
    expected: str
    needed_bytes: int
    promised_bytes: int
    obtained_bytes: int
    tails: int = 0
    wrong_tails: int = 0
    heads: int = 0
    wrong_heads: int = 0

    @property
    def wrong_of(self) -> tuple[int, int]:
        """Wrong lookups of how many: of the tails, unless heads alone were not found."""
        if self.wrong_heads and not self.wrong_tails:
            return self.wrong_heads, self.heads
        return self.wrong_tails, self.tails


@dataclass(frozen=True, slots=True)
class Proven:
    """All proofs as they were made, by which ``tool`` (name, version, commit) and with which variant."""

    tool: Mapping[str, str]
    variant: Origin
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class ModelProofs:
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
    def allows(self) -> str:
        """What the proofs allow: ``mask`` or ``no``, ``?`` for not known; ``-`` where the pointer stays."""
        return "-" if self.first.encoding == "pointer" else {True: "mask", False: "no", None: "?"}[self.safe]

    @property
    def max_folio_vmemmap_align_bytes(self) -> int:
        """MAX_FOLIO_VMEMMAP_ALIGN."""
        return _PAGES[self.first.base_page_bytes].max_folio_vmemmap_align(self.first.struct_page_bytes)

    @property
    def kernels_choice(self) -> str:
        """What v7.1 does: ``mask``, the mask with a ``warning`` from sparse_init(), or ``pointer``."""
        if not _MODELS[self.first.model].vmemmap or not has_mask(self.first.struct_page_bytes):
            return "pointer"
        return "mask" if self.first.promised_bytes >= self.max_folio_vmemmap_align_bytes else "warning"


@dataclass(frozen=True, slots=True)
class ProofTable:
    """A row for each model: a base page, and the struct pages of which that is true."""

    base_page_bytes: int
    struct_pages: tuple[int, ...]
    rows: tuple[ModelProofs, ...]

    @property
    def title(self) -> str:
        """Base page, struct pages, encoding."""
        page, sizes = format_size(self.base_page_bytes), " or ".join(map(str, self.struct_pages))
        return f"base page {page}, struct page {sizes} bytes: {self.rows[0].first.encoding}"


def by_model(proofs: Iterable[Proof]) -> list[ModelProofs]:
    """One for each base page, struct page and model, in order of appearance."""
    of = groupby(proofs, lambda proof: (proof.base_page_bytes, proof.struct_page_bytes, proof.model))
    return [ModelProofs(tuple(group)) for _, group in of]


def tables_of(proofs: Iterable[Proof]) -> list[ProofTable]:
    """One for each base and struct page; struct pages that keep the pointer share one where they agree."""
    tables: dict[tuple[object, ...], ProofTable] = {}
    both = groupby(by_model(proofs), lambda row: (row.first.base_page_bytes, row.first.struct_page_bytes))
    for (page, size), group in both:
        rows = tuple(group)
        key = page, has_mask(size) and size, tuple(proof.found for row in rows for proof in row.proofs)
        before = tables[key].struct_pages if key in tables else ()
        tables[key] = ProofTable(page, (*before, size), rows)
    return list(tables.values())


def disagreements(proofs: Iterable[Proof]) -> list[str]:
    """Where a proof did not find what the arithmetic says."""
    return [
        f"{proof.model}, order {proof.order}, base page {format_size(proof.base_page_bytes)}, struct page "
        f"{proof.struct_page_bytes} bytes: found {proof.found!r}, expected {proof.expected!r}"
        for proof in proofs
        if proof.found != proof.expected
    ]

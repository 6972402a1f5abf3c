"""Proofs that several modules' tests look at, made once."""

from __future__ import annotations

from functools import cache

from pagebench import prove
from pagebench.memmap.models import BASE_PAGES
from pagebench.results.proofs import Proven


@cache
def all_orders() -> Proven:
    """4 KiB pages and 64-byte struct pages, all orders."""
    return prove.prove([BASE_PAGES[0]], [64])


@cache
def low_orders() -> Proven:
    """All base and struct pages, orders up to 10."""
    return prove.prove(max_order=10)

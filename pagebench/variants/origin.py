"""Where a variant comes from, apart from its code."""

from __future__ import annotations

from pagebench import core
from pagebench.names import Origin


def origin_of(variant: core.Variant) -> Origin:
    """What reports say of a variant."""
    return Origin(
        name=variant.name,
        commit=variant.commit,
        subject=variant.subject,
        version=variant.version,
        struct_page_bytes=variant.struct_page_bytes,
    )

"""Where a variant comes from."""

from __future__ import annotations

import dataclasses

import pytest

from pagebench import core
from pagebench.names import BUILT_IN_STRUCT_PAGES
from pagebench.variants.origin import origin_of


@pytest.mark.parametrize("size", BUILT_IN_STRUCT_PAGES)
def test_all_that_reports_say_is_what_the_variant_says(size: int) -> None:
    for variant in core.built_in_variants(size).values():
        origin = origin_of(variant)
        for field in dataclasses.fields(origin):
            assert getattr(origin, field.name) == getattr(variant, field.name)
        assert origin.struct_page_bytes == size

"""What is expected of a lookup's machine code: ``form=arith,instructions<=6``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from pagebench import names
from pagebench.code.listing import Form, Listing
from pagebench.errors import PagebenchError

COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "!=": operator.ne,
    "=": operator.eq,
}
FORMS: tuple[str, ...] = get_args(Form)
# What may be expected: its tail test, and the size of the variant's own part in a loop.
COUNTS: Mapping[str, Callable[[Listing], int]] = {
    "instructions": lambda listing: listing.variant_instructions,
    "bytes": lambda listing: listing.variant_bytes,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """One of the conditions: ``what`` compared with ``value``."""

    what: str
    comparison: str
    value: str

    def holds(self, listing: Listing) -> bool:
        """Whether a loop is as expected."""
        if self.what == "form":
            return (listing.form == self.value) is (self.comparison == "=")
        return COMPARISONS[self.comparison](COUNTS[self.what](listing), int(self.value))

    def __str__(self) -> str:
        return f"{self.what}{self.comparison}{self.value}"


def parse(text: str) -> tuple[Expected, ...]:
    """Conditions between commas.  Raises PagebenchError."""
    conditions = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|<|>|=)\s*(\w+)\s*", part)
        if not found:
            raise PagebenchError(f"{part!r} is no expectation: write it as form=arith,instructions<=6")
        one = Expected(found[1], found[2], found[3])
        if one.what == "form":
            if one.value not in FORMS:
                raise names.nearest(one.value, FORMS, "form")
            if one.comparison not in ("=", "!="):
                raise PagebenchError(f"{one} compares nothing: a form is = or != another")
        elif one.what not in COUNTS:
            raise names.nearest(one.what, ("form", *COUNTS), "expectation")
        elif not one.value.isdecimal():
            raise PagebenchError(f"{one}: {one.value!r} is not a whole number")
        conditions.append(one)
    return tuple(conditions)


def found(listing: Listing) -> str:
    """What a loop is, in the same words."""
    counts = (f"{what}={count(listing)}" for what, count in COUNTS.items())
    return ",".join((f"form={listing.form}", *counts))

"""The machine code that was timed, as text: 75 columns, ASCII, ready for a mail."""

from __future__ import annotations

import textwrap
from itertools import zip_longest

from pagebench.code.listing import Instruction, Listing
from pagebench.names import Origin
from pagebench.report import WIDTH

LEGEND = "| the variant's own   > its tail test and what consumes it"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _cited(variant: Origin) -> str:
    """Where the variant comes from, as the kernel cites commits."""
    subject = f'("{variant.subject}")' if variant.commit else variant.subject
    return ", ".join(filter(None, (f"{variant.commit} {subject}".strip(), variant.version)))


def _line(instruction: Instruction) -> str:
    mark = ">" if instruction.tail_test else "|" if instruction.in_variant else " "
    line = f"{instruction.offset:>5x} {mark} {instruction.mnemonic:<8} {instruction.operands}".rstrip()
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def render(variant: Origin, probe_name: str, listing: Listing) -> str:
    """A probe's listing under a header that says whose it is and how it was compiled.

    ``listing`` is that of ``variant``'s probe ``probe_name``.  Offsets are in
    hexadecimal, as the jumps have them.
    """
    header = [
        f"{variant.name}, struct page of {variant.struct_page_bytes} bytes: {_cited(variant)}",
        f"probe {probe_name}, form {listing.form}: {_count(listing.variant_instructions, 'instruction')}, "
        f"{_count(listing.variant_bytes, 'byte')} of the variant's own; "
        f"loop of {_count(listing.loop_instructions, 'instruction')}",
    ]
    if listing.immovable:
        header.append(f"stays where it was linked: {listing.immovable}")
    # A subject is free text.
    lines = [
        line
        for text in header
        for line in textwrap.wrap(text.encode("ascii", "replace").decode(), WIDTH, subsequent_indent="  ")
    ]
    lines += ["", *map(_line, listing.instructions), "", LEGEND]
    return "\n".join(lines) + "\n"


def side_by_side(before: tuple[Origin, Listing], after: tuple[Origin, Listing]) -> str:
    """Two variants' own instructions in two columns, and what changed at each call site."""
    columns = [[_line(i)[6:] for i in listing.instructions if i.in_variant] for _, listing in (before, after)]
    width = (WIDTH - 3) // 2
    lines = [f"{before[0].name[:width]:{width}}   {after[0].name[:width]}"]
    for left, right in zip_longest(*columns, fillvalue=""):
        lines.append(f"{left[:width]:{width}}   {right[:width]}".rstrip())
    old, new = before[1], after[1]
    lines += [
        "",
        f"each call site: {old.variant_instructions} to {new.variant_instructions} instructions, "
        f"{old.variant_bytes} to {new.variant_bytes} bytes",
        f"the tail test: {old.form} to {new.form}",
    ]
    return "\n".join(lines) + "\n"

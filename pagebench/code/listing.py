"""A probe's machine code, taken apart: what form.py reads from it and reports print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["branch", "select", "arith", "none"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a probe; jumps name their target by its offset.

    ``offset`` and ``size`` are in bytes.  ``tail_test`` is set for the test of
    bit 0 of the word and for the instruction that consumes it, ``loop_control``
    for what steps, compares or tests the loop's index; ``in_loop`` for what runs again and again.
    """

    offset: int
    size: int
    mnemonic: str
    operands: str
    in_variant: bool
    tail_test: bool
    loop_control: bool
    in_loop: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A probe's machine code, taken apart.

    ``variant_bytes`` and ``bytes`` are the sizes of the variant's own
    instructions and of the whole probe; ``loop_instructions`` counts the loop
    with the variant in it.  ``harness`` is the loop without the variant, in the
    order of execution from the variant's end round to its beginning.
    ``immovable`` is empty where the code may be copied to another address, and
    says why it may not otherwise.
    """

    instructions: tuple[Instruction, ...]
    form: Form
    variant_instructions: int
    variant_bytes: int
    loop_instructions: int
    bytes: int
    harness: tuple[Instruction, ...]
    immovable: str

"""The report on machine code."""

from __future__ import annotations

from test_form import probe

from pagebench.code import form
from pagebench.names import Origin
from pagebench.report import WIDTH, listing


def test_a_listing_says_whose_it_is_and_how_it_was_compiled() -> None:
    # As LOOP, with: mov rdx, [rax+8]; test dl, 1; jne 1f; 0: ...; ret; 1: lea rax, [rdx-1]; jmp 0
    code = "8b06 488d04c7 488b5008 f6c201 750c 4883c604 4839f2 75e8 c3 cccc 488d42ff ebee"
    one = probe(code, (6, 15))
    origin = Origin(
        name="pointer",
        commit="1d798ca3f164",
        subject="mm: make compound_head() r\u00f6bust, and say so at such a length that it is wrapped",
        version="v4.4 ... v7.0",
        struct_page_bytes=64,
    )
    text = listing.render(origin, "lookup", form.analyse(one, "x86_64"))
    assert text == EXPECTED
    assert text.isascii() and max(map(len, text.splitlines())) <= WIDTH


EXPECTED = """\
pointer, struct page of 64 bytes: 1d798ca3f164 ("mm: make compound_head()
  r?bust, and say so at such a length that it is wrapped"), v4.4 ... v7.0
probe lookup, form branch: 5 instructions, 15 bytes of the variant's own;
  loop of 10 instructions

    0   mov      eax, dword ptr [rsi]
    2   lea      rax, [rdi + rax*8]
    6 | mov      rdx, qword ptr [rax + 8]
    a > test     dl, 1
    d > jne      0x1b
    f   add      rsi, 4
   13   cmp      rdx, rsi
   16   jne      0
   18   ret
   19   int3
   1a   int3
   1b | lea      rax, [rdx - 1]
   1f | jmp      0xf

| the variant's own   > its tail test and what consumes it
"""


def test_two_variants_side_by_side_and_what_changed() -> None:
    # mov rdx, [rax+8]; test dl, 1; jne 1f; ret; 1: lea rax, [rdx-1]; jmp to the end; and without a branch.
    branch = form.analyse(probe("488b5008 f6c201 7501 c3 488d42ff c3", (0, 14)), "x86_64")
    arith = form.analyse(probe("488b5008 4821d0 c3", (0, 7)), "x86_64")
    old, new = (Origin(name, "", "", "", 64) for name in ("old", "new"))
    assert listing.side_by_side((old, branch), (new, arith)) == BESIDE


BESIDE = """\
old                                    new
| mov      rdx, qword ptr [rax + 8]    | mov      rdx, qword ptr [rax + 8]
> test     dl, 1                       | and      rax, rdx
> jne      0xa
| ret
| lea      rax, [rdx - 1]

each call site: 5 to 2 instructions, 14 to 7 bytes
the tail test: branch to arith
"""

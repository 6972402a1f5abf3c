"""The disassembler's findings, on the core's own loops, other compilers' and by hand."""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compilers import skip_without
from elftools.elf.elffile import ELFFile

from pagebench import core
from pagebench.code import form
from pagebench.code.disassembly import JUMPS_IF, REGISTER
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.names import (
    BUILT_IN_STRUCT_PAGES,
    CONTROL,
    CONTROL_EIGHTH,
    CONTROL_REFERENCE,
    ENCODING_NULL,
    IDENTITY,
    NULL_REFERENCE,
)
from pagebench.variants import compiler

CSRC = Path(__file__).resolve().parent.parent / "csrc"
# What each does is the same for all variants.
PROBES = core.built_in_variants()[IDENTITY].probes
ONE_LOOKUP = [name for name, probe in PROBES.items() if probe.lookups == 1]
LEFT_TO_THE_COMPILER = {"branch", "select"}

# Name: how to call it, the machine it compiles for, what Debian calls what it takes.
CROSS_GCC = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
COMPILERS = {
    "clang": (["clang"], platform.machine(), "clang"),
    "aarch64-linux-gnu-gcc": (["aarch64-linux-gnu-gcc"], "aarch64", CROSS_GCC),
    # With the C library's headers of the other one.
    "clang --target=aarch64": (["clang", "--target=aarch64-linux-gnu"], "aarch64", f"clang {CROSS_GCC}"),
}

RETURN = {"x86_64": "c3", "aarch64": "c0035fd6"}


def probe(code: str | bytes, variant_code: tuple[int, int], name: str = "lookup") -> core.Probe:
    code = code if isinstance(code, bytes) else bytes.fromhex(code)
    return dataclasses.replace(PROBES[name], run=0, start=0, code=code, variant_code=variant_code, cdata=None)


def analyse_by_hand(code: str, machine: str) -> tuple[form.Listing, str]:
    """The listing of a variant of these bytes, followed by a return, and its text."""
    listing = form.analyse(probe(code + RETURN[machine], (0, len(bytes.fromhex(code)))), machine)
    own = listing.instructions[:-1]
    return listing, "; ".join(f"{i.mnemonic} {i.operands}".strip() for i in own)


def tail_test(listing: form.Listing) -> str:
    return " ".join(i.mnemonic for i in listing.instructions if i.tail_test)


def lookups(variant: core.Variant) -> list[core.Probe]:
    """The variant's probes of one lookup."""
    return [variant.probes[name] for name in ONE_LOOKUP]


def harness_shape(listing: form.Listing) -> tuple[str, ...]:
    """The loop around a variant, for comparison with that around another one.

    In order of execution, registers and moves between them left out, then what
    controls the loop, sorted: equal for all variants of a probe by one compiler.
    """
    work: list[str] = []
    control: list[str] = []
    for instruction in listing.harness:
        name = instruction.mnemonic.split()[-1]
        text = REGISTER.sub("r", f"{instruction.mnemonic} {instruction.operands}")
        if JUMPS_IF.fullmatch(name):
            (control if instruction.loop_control else work).append("repeat")
        elif instruction.loop_control:
            control.append(re.sub(r" (r, )+", " ", text))
        elif stepping := re.fullmatch(r"(.*\]), (#\w+)", text):
            work.append(stepping[1])
            control.append(f"add {stepping[2]}")
        elif name not in {"jmp", "b"} and text != "mov r, r":
            work.append(text)
    return (*work, *sorted(control))


def branches_beside(variant: core.Variant) -> bool:
    """Whether a variant has a branch whatever becomes of its tail test."""
    return variant.fixes_fake_heads or variant.name == CONTROL_EIGHTH


def check_variant(variant: core.Variant, listing: form.Listing) -> None:
    """What holds of a variant's probe of one lookup by any compiler."""
    assert listing.form in ({variant.form} if variant.form else LEFT_TO_THE_COMPILER), variant.name
    assert not listing.immovable
    assert listing.bytes == sum(i.size for i in listing.instructions)
    assert listing.loop_instructions == listing.variant_instructions + len(listing.harness)
    own = [i for i in listing.instructions if i.in_variant]
    assert listing.variant_instructions == len(own)
    assert listing.variant_bytes == sum(i.size for i in own)
    marked = [i for i in listing.instructions if i.tail_test]
    assert all(i.in_variant for i in marked)
    jumps = [i for i in own if re.match(r"j(?!mp)|[ct]bn?z|b\.", i.mnemonic)]
    if listing.form == "branch":
        assert marked[-1] in jumps
    else:  # fake heads are looked for behind a branch, whatever became of the tail test
        assert bool(jumps) == branches_beside(variant)


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
@pytest.mark.parametrize("probe_name", ONE_LOOKUP)
def test_built_in_variants_are_what_they_promise(struct_page_bytes: int, probe_name: str) -> None:
    for variant in core.built_in_variants(struct_page_bytes).values():
        check_variant(variant, form.analyse(variant.probes[probe_name]))


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_a_form_in_a_name_is_a_promise(struct_page_bytes: int) -> None:
    variants = core.built_in_variants(struct_page_bytes)
    for name, variant in variants.items():
        if name.endswith(("-branch", "-select")):
            assert variant.form == name.rpartition("-")[2]
    assert variants[IDENTITY].form == "none"
    # One add more than its reference, and nothing that is predicted.
    arith = "arith" if models.has_mask(struct_page_bytes) else ""
    assert variants[CONTROL].form == variants[CONTROL_REFERENCE].form == arith


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_fakehead_tests_the_page_before_its_neighbour(struct_page_bytes: int) -> None:
    for one in lookups(core.built_in_variants(struct_page_bytes)["fakehead"]):
        listing = form.analyse(one)
        neighbour = re.compile(rf"\[\w+(, #| \+ ){struct_page_bytes + 8:#x}\]")
        loads = [i.offset for i in listing.instructions if i.in_variant and neighbour.search(i.operands)]
        assert loads
        assert all(i.offset < loads[0] for i in listing.instructions if i.tail_test)


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_probes_without_a_lookup_have_no_form(struct_page_bytes: int) -> None:
    for variant in core.built_in_variants(struct_page_bytes).values():
        none = [probe for probe in variant.probes.values() if not probe.lookups]
        assert {form.analyse(probe).form for probe in none} == {"none"}


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_several_lookups_are_so_many_times_the_instructions(struct_page_bytes: int) -> None:
    several = [probe.name for probe in PROBES.values() if probe.lookups > 1]
    assert several
    for name, variant in core.built_in_variants(struct_page_bytes).items():
        once = form.analyse(variant.probes["lookup"])
        for probe in map(variant.probes.__getitem__, several):
            listing = form.analyse(probe)
            assert listing.form == once.form, name
            assert listing.variant_instructions >= probe.lookups * once.variant_instructions, name
            assert not listing.immovable


def test_identity_has_nothing_of_its_own() -> None:
    for one in lookups(core.built_in_variants()[IDENTITY]):
        listing = form.analyse(one)
        assert (listing.variant_instructions, listing.variant_bytes, tail_test(listing)) == (0, 0, "")
        assert len(listing.harness) == listing.loop_instructions > 3


def test_code_between_the_marks_is_the_variants() -> None:
    """Without an arm elsewhere, there is nothing else."""
    straight = [
        variant
        for variant in core.built_in_variants().values()
        if variant.form in {"select", "arith"} and not branches_beside(variant)
    ]
    assert straight
    for variant in straight:
        for one in lookups(variant):
            begin, end = one.variant_code
            for i in form.analyse(one).instructions:
                assert i.in_variant == (begin <= i.offset < end and not i.loop_control)


def test_an_arm_behind_the_return_is_the_variants() -> None:
    for one in lookups(core.built_in_variants()["pointer-branch"]):
        instructions = form.analyse(one).instructions
        (ret,) = (n for n, i in enumerate(instructions) if i.mnemonic == "ret")
        assert [i.in_variant for i in instructions[ret + 1 :]] == [True, True]
        assert instructions[-1].mnemonic in {"jmp", "b"}


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_the_harness_is_the_same_around_every_variant(struct_page_bytes: int) -> None:
    shapes = {}
    for probe_name in ONE_LOOKUP:
        variants = core.built_in_variants(struct_page_bytes).values()
        found = {v.name: harness_shape(form.analyse(v.probes[probe_name])) for v in variants}
        assert set(found.values()) == {found[IDENTITY]}
        shapes[probe_name] = found[IDENTITY]
    assert len(set(shapes.values())) == len(ONE_LOOKUP)
    assert len(shapes["lookup"]) < len(shapes["chain"]) < len(shapes["flags"])


# mov eax, [rsi]; lea rax, [rdi+rax*8]; <variant>; add rsi, 4; cmp rdx, rsi; jne 0
LOOP = "8b06 488d04c7 {} 4883c604 4839f2 75{} c3"


def test_harness_shape_sees_one_instruction_more() -> None:
    plain = form.analyse(probe(LOOP.format("", "f1"), (6, 6)), "x86_64")
    longer = form.analyse(probe(LOOP.format("4883c800", "ed"), (6, 6)), "x86_64")  # or rax, 0
    owned = form.analyse(probe(LOOP.format("4883c800", "ed"), (6, 10)), "x86_64")
    assert harness_shape(plain) == (
        "mov r, dword ptr [r]",
        "lea r, [r + r*8]",
        "add 4",
        "cmp r",
        "repeat",
    )
    assert harness_shape(longer) != harness_shape(plain) == harness_shape(owned)


def test_harness_shape_does_not_see_registers_moves_and_layout() -> None:
    # jmp L; B: mov r8, rax; add rcx, 4; cmp r9, rcx; je E; L: mov eax, [rcx];
    # lea rax, [r10+rax*8]; jmp B; E: ret
    rotated = "eb0c 4989c0 4883c104 4939c9 7408 8b01 498d04c2 ebec c3"
    listing = form.analyse(probe(rotated, (20, 20)), "x86_64")
    plain = form.analyse(probe(LOOP.format("", "f1"), (6, 6)), "x86_64")
    assert harness_shape(listing) == harness_shape(plain)


def test_a_step_scheduled_into_the_variant_is_the_harness() -> None:
    # ldr w8, [x1]; add x8, x0, x8, lsl #3; ldr x10, [x8, #8]; tbnz w10, #0, 1f;
    # 0: add x1, x1, #4; subs x9, x9, #4; b.ne 0; ret; 1: sub x8, x10, #1; b 0
    code = "280040b9 080c088b 0a0540f9 aa000037 21100091 291100f1 41ffff54 c0035fd6 480500d1 fbffff17"
    listing = form.analyse(probe(code, (8, 24)), "aarch64")
    assert [i.offset for i in listing.instructions if i.in_variant] == [8, 12, 32, 36]
    assert [i.offset for i in listing.instructions if i.loop_control] == [16, 20, 24]
    assert (listing.form, listing.loop_instructions) == ("branch", 9)
    assert harness_shape(listing) == (
        "ldr r, [r]",
        "add r, r, r, lsl #3",
        "add #4",
        "repeat",
        "subs #4",
    )


BY_HAND = {
    "x86_64": [
        ("f6400801 7501 90", "branch", "test jne", "test byte ptr [rax + 8], 1; jne 7; nop"),
        (  # the nop of a static key
            "488b5008 f6c201 7505 0f1f440000",
            "branch",
            "test jne",
            "mov rdx, qword ptr [rax + 8]; test dl, 1; jne 0xe; nop dword ptr [rax + rax]",
        ),
        (
            "488b5008 480fbae200 480f42c2",
            "select",
            "bt cmovb",
            "mov rdx, qword ptr [rax + 8]; bt rdx, 0; cmovb rax, rdx",
        ),
        (  # lea and mov leave the flags alone
            "488b5008 f6c201 488d4aff 4889ce 480f45c6",
            "select",
            "test cmovne",
            "mov rdx, qword ptr [rax + 8]; test dl, 1; lea rcx, [rdx - 1]; mov rsi, rcx; cmovne rax, rsi",
        ),
        (  # the flags that decide are the subtraction's
            "488b5008 83e201 4883e901 480f45c6 4809d0",
            "arith",
            "and",
            "mov rdx, qword ptr [rax + 8]; and edx, 1; sub rcx, 1; cmovne rax, rsi; or rax, rdx",
        ),
        (  # the first jump is by something else
            "488b5008 f70040000000 7507 83e201 480f45c1",
            "select",
            "and cmovne",
            "mov rdx, qword ptr [rax + 8]; test dword ptr [rax], 0x40; jne 0x13; and edx, 1; cmovne rax, rcx",
        ),
        (
            "488b5008 89d1 83e101 83f901 7402 31c0",
            "branch",
            "and je",
            "mov rdx, qword ptr [rax + 8]; mov ecx, edx; and ecx, 1; cmp ecx, 1; je 0x10; xor eax, eax",
        ),
        (
            "0fb64808 f7d1 f6c101 7402 31c0",
            "branch",
            "test je",
            "movzx ecx, byte ptr [rax + 8]; not ecx; test cl, 1; je 0xd; xor eax, eax",
        ),
        (
            "488b5008 f6c201 0f95c1 0fb6c9 4829c8",
            "arith",
            "test",
            "mov rdx, qword ptr [rax + 8]; test dl, 1; setne cl; movzx ecx, cl; sub rax, rcx",
        ),
        (
            "488b5008 83e201 48f7da 4809d0",
            "arith",
            "and",
            "mov rdx, qword ptr [rax + 8]; and edx, 1; neg rdx; or rax, rdx",
        ),
        (
            "488b5008 48c1e23f 48c1fa3f 4821d0",
            "arith",
            "shl",
            "mov rdx, qword ptr [rax + 8]; shl rdx, 0x3f; sar rdx, 0x3f; and rax, rdx",
        ),
    ],
    "aarch64": [
        (
            "640440f9 44000037 e00303aa",
            "branch",
            "tbnz",
            "ldr x4, [x3, #8]; tbnz w4, #0, #0xc; mov x0, x3",
        ),
        (
            "640440f9 850400d1 9f0040f2 a310839a",
            "select",
            "tst csel",
            "ldr x4, [x3, #8]; sub x5, x4, #1; tst x4, #1; csel x3, x5, x3, ne",
        ),
        (
            "640440f9 9f0040f2 85109fda 6300058a",
            "select",
            "tst csinv",
            "ldr x4, [x3, #8]; tst x4, #1; csinv x5, x4, xzr, ne; and x3, x3, x5",
        ),
        (
            "640440f9 85004092 a50400d1 840005aa 6300048a",
            "arith",
            "and",
            "ldr x4, [x3, #8]; and x5, x4, #1; sub x5, x5, #1; orr x4, x4, x5; and x3, x3, x4",
        ),
        (
            "640440f9 85004092 450000b4 6300048a",
            "branch",
            "and cbz",
            "ldr x4, [x3, #8]; and x5, x4, #1; cbz x5, #0x10; and x3, x3, x4",
        ),
        (
            "640440f9 850040f2 40000054 830400d1",
            "branch",
            "ands b.eq",
            "ldr x4, [x3, #8]; ands x5, x4, #1; b.eq #0x10; sub x3, x4, #1",
        ),
        (
            "640440f9 9f0040f2 e5079f1a 45000035 e40303aa",
            "branch",
            "tst cbnz",
            "ldr x4, [x3, #8]; tst x4, #1; cset w5, ne; cbnz w5, #0x14; mov x4, x3",
        ),
        (
            "640440f9 85004093 6300258a",
            "arith",
            "sbfx",
            "ldr x4, [x3, #8]; sbfx x5, x4, #0, #1; bic x3, x3, x5",
        ),
        (
            "640440f9 850041d3 a5fc7f93 850025aa 6300058a",
            "arith",
            "lsl",
            "ldr x4, [x3, #8]; lsl x5, x4, #0x3f; asr x5, x5, #0x3f; orn x5, x4, x5; and x3, x3, x5",
        ),
        (
            "640040f9 84003036 640440f9 850040d3 250000b5",
            "branch",
            "ubfx cbnz",
            "ldr x4, [x3]; tbz w4, #6, #0x14; ldr x4, [x3, #8]; ubfx x5, x4, #0, #1; cbnz x5, #0x14",
        ),
    ],
}


@pytest.mark.parametrize(
    ("machine", "code", "form", "test", "text"),
    [(machine, *case) for machine, cases in BY_HAND.items() for case in cases],
)
def test_form_by_hand(machine: str, code: str, form: str, test: str, text: str) -> None:
    listing, disassembled = analyse_by_hand(code, machine)
    assert disassembled == text
    assert (listing.form, tail_test(listing)) == (form, test)
    assert not listing.immovable


@pytest.mark.parametrize(
    ("machine", "code", "culprit"),
    [
        ("x86_64", "488b5008 f6c601 7502 31c0", "jne 0xb"),  # test dh, 1: bit 8
        ("x86_64", "488b5008 f6c202 7502 31c0", "jne 0xb"),  # test dl, 2
        ("x86_64", "488b5008 f6c203 7502 31c0", "jne 0xb"),  # test dl, 3
        ("x86_64", "488b5008 4839c2 480f44c1", "cmove rax, rcx"),  # cmp rdx, rax
        ("x86_64", "488b5008 85ff 480f45d1 f6c201 7502 31c0", "jne 0x11"),  # test edi, edi; cmovne rdx, rcx
        ("x86_64", "488b5008 480fbae201 7202 31c0", "jb 0xd"),  # bt rdx, 1
        ("x86_64", "488b5008 48891424 488b0c24 f6c101 7502 31c0", "jne 0x13"),  # by way of the stack
        ("x86_64", "488d4840 488b5108 f6c201 7502 31c0", "jne 0xf"),  # the word of page[1]
        ("x86_64", "488b542408 f6c201 480f45c1", "cmovne rax, rcx"),  # of the stack
        ("aarch64", "640440f9 44000837 e00303aa", "tbnz w4, #1, #0xc"),
        ("aarch64", "640440f9 440000b4 e00303aa", "cbz x4, #0xc"),
        ("aarch64", "640440f9 9f0003eb 8380839a", "csel x3, x4, x3, hi"),  # cmp x4, x3
    ],
)
def test_another_test_is_refused_not_guessed(machine: str, code: str, culprit: str) -> None:
    with pytest.raises(PagebenchError, match=rf"the probe lookup: `{re.escape(culprit)}`.*word at offset 8"):
        analyse_by_hand(code, machine)


@pytest.mark.parametrize(
    ("machine", "code", "culprit"),
    [
        ("x86_64", "488b1500010000 4801d0", "mov rdx, qword ptr [rip + 0x100]"),
        ("x86_64", "e800010000", "call 0x105"),
        ("x86_64", "488b5008 83e201 0f85f1000000", "jne 0xfe"),
        ("aarch64", "20000010", "adr x0, #4"),
        ("aarch64", "00000090", "adrp x0, #0"),
        ("aarch64", "40000058 1f2003d5", "ldr x0, #8"),
        ("aarch64", "40000094", "bl #0x100"),
        ("aarch64", "640440f9 04080037", "tbnz w4, #0, #0x104"),
        # Nothing here depends on where it is: gs:, an indirect call, jumps inside.
        ("x86_64", "65488b142510000000 ffd0 eb01 90", ""),
        ("aarch64", "00003fd6 02000014 1f2003d5", ""),
    ],
)
def test_code_that_depends_on_its_address_is_immovable(machine: str, code: str, culprit: str) -> None:
    immovable = analyse_by_hand(code, machine)[0].immovable
    assert immovable.startswith(f"`{culprit}` at") if culprit else not immovable


@pytest.mark.parametrize(
    ("one", "machine", "message"),
    [
        (probe("9006", (0, 1)), "x86_64", "no x86_64 instruction begins at 0x1"),
        (probe("c390", (0, 1)), "x86_64", "never reaches its end at 0x1"),
        (probe("c3", (0, 0)), "riscv64", "not for riscv64"),
    ],
)
def test_what_cannot_be_read_is_an_error(one: core.Probe, machine: str, message: str) -> None:
    with pytest.raises(PagebenchError, match=message):
        form.analyse(one, machine)


def probes_of(path: Path) -> Iterator[core.Probe]:
    """The probes of an object file that was not linked."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        symbols = elf.get_section_by_name(".symtab")
        kinds = elf.get_section_by_name("pb_marks").data()
        marks: dict[str, dict[int, int]] = {}
        for entry in elf.get_section_by_name(".relapb_marks").iter_relocations():
            symbol = symbols.get_symbol(entry["r_info_sym"])
            section = elf.get_section(symbol["st_shndx"]).name
            kind = int.from_bytes(kinds[entry["r_offset"] + 4 :][:4], "little")
            assert kind not in marks.setdefault(section, {}), f"{section} was duplicated"
            marks[section][kind] = symbol["st_value"] + entry["r_addend"]
        for section, where in marks.items():
            code = elf.get_section_by_name(section).data()
            name = max((name for name in PROBES if section.endswith(f"_{name}")), key=len)
            yield probe(code, (where[0], where[1]), name)


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES[:2])
@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.slow
def test_other_compilers(name: str, struct_page_bytes: int, tmp_path: Path) -> None:
    cc, machine, packages = COMPILERS[name]
    skip_without(cc, packages)
    flags = [*compiler.variant_cflags(cc, machine), f"-DPB_STRUCT_PAGE={struct_page_bytes}"]
    variants = core.built_in_variants(struct_page_bytes)
    shapes: dict[str, set[tuple[str, ...]]] = {}
    for source in sorted((CSRC / "variants").glob("*.c")):
        compiler.compile_object(cc, flags, source, tmp_path / "variant.o")
        found = {one.name: form.analyse(one, machine) for one in probes_of(tmp_path / "variant.o")}
        assert found.keys() == PROBES.keys()
        for probe_name, listing in found.items():
            if PROBES[probe_name].lookups > 1:
                assert listing.form == found["lookup"].form
        for probe_name in ONE_LOOKUP:
            listing = found[probe_name]
            check_variant(variants[source.stem], listing)
            shapes.setdefault(probe_name, set()).add(harness_shape(listing))
    assert [len(shape) for shape in shapes.values()] == [1] * len(ONE_LOOKUP), shapes


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_the_null_between_encodings_is_timed_by_its_references_code(struct_page_bytes: int) -> None:
    variants = core.built_in_variants(struct_page_bytes)
    null, reference = variants[ENCODING_NULL], variants[NULL_REFERENCE]
    for name, one in null.probes.items():
        assert one.writes_tails or one.code == reference.probes[name].code, name

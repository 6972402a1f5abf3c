"""The recording rewrite's other half: aarch64's loops, cross-assembled, under qemu."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import skip_without
from elftools.elf.elffile import ELFFile
from hand_made import Recorded, assembled, probe, walked
from test_core import BUILDS, CSRC, ROOT, core_sources, settings
from test_recording import check_object, rewritten

from pagebench import core
from pagebench.cache import recorded
from pagebench.code import recording
from pagebench.code.disassembly import decode
from pagebench.errors import PagebenchError
from pagebench.variants import compiler

CROSS = BUILDS["aarch64"]
MACHINE = "aarch64"
Loop = tuple[str, int, str]


@pytest.fixture(scope="module", autouse=True)
def _cross() -> None:
    skip_without([CROSS.cc], CROSS.packages, CROSS.run_by)


def program_of(
    probes: Mapping[Any, core.Probe], rows: Mapping[Any, Loop], objects: list[Path], scratch: Path
) -> tuple[Path, dict[Any, recording.Recording]]:
    """tests/recordings.c with the rewritten loops."""
    made = {
        one: recording.rewrite(its, f"loop_{number}", MACHINE)
        for number, (one, its) in enumerate(probes.items())
    }
    assembly, listed, program = scratch / "loops.s", scratch / "loops.h", scratch / "recordings"
    assembly.write_text(recorded.assembly(made))
    listed.write_text(
        "".join(
            f'LOOP({one.symbol}, "{variant}", {size}, "{name}")\n'
            for one, (variant, size, name) in zip(made.values(), rows.values(), strict=True)
        )
    )
    flags = settings()["extra-compile-args"]
    defined = ['-DPB_CFLAGS=""', '-DPB_BUILT_COMMIT=""', f'-DLOOPS="{listed}"', f"-I{CSRC}"]
    source = ROOT / "tests" / "recordings.c"
    argv = [CROSS.cc, *flags, *CROSS.flags, *defined, source, *core_sources(), assembly, *objects]
    done = subprocess.run([*argv, "-o", program], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return program, made


def run(
    program: Path, made: Mapping[Any, recording.Recording], order: int, n: int
) -> dict[Any, tuple[Recorded, int, int]]:
    """What each loop recorded, where memory is, where offsets are."""
    argv = [*CROSS.run_by, program, str(order), str(n)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    found = {}
    for line, (one, its) in zip(done.stdout.splitlines(), made.items(), strict=True):
        _, last, base, offsets, *records = map(int, line.split())
        found[one] = Recorded(last, its.sites, np.array(records, np.uint64)), base, offsets
    return found


# ---- All variants.


def loops_of(path: Path, name: str, size: int) -> dict[Loop, core.Probe]:
    """The probes of a variant's object file."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        symbols = {symbol.name: symbol for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
        found = {}
        for name_of_probe in core.built_in_variants()["identity"].probes:
            section = f"pb_{name.replace('-', '_')}_{size}_{name_of_probe}"
            assert elf.get_section_by_name(f".rela{section}") is None
            at = symbols[f"{section}_loop"]["st_value"]
            its = probe(elf.get_section_by_name(section).data(), (0, 0), name_of_probe)
            found[name, size, name_of_probe] = dataclasses.replace(its, run=at)
        return found


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Loop, core.Probe], list[Path]]:
    scratch = tmp_path_factory.mktemp("aarch64")
    probes: dict[Loop, core.Probe] = {}
    objects = []
    flags = compiler.variant_cflags([CROSS.cc], MACHINE)
    for size in (64, 56):
        for source in sorted((CSRC / "variants").glob("*.c")):
            objects.append(scratch / f"{source.stem}-{size}.o")
            sized = [f"-DPB_STRUCT_PAGE={size}", f"-DPB_SUFFIX=_{size}"]
            compiler.compile_object([CROSS.cc], [*flags, *sized], source, objects[-1])
            probes |= loops_of(objects[-1], source.stem, size)
    return probes, objects


@pytest.mark.slow
def test_what_is_added_touches_nothing_of_the_loops(
    variants: tuple[dict[Loop, core.Probe], list[Path]], tmp_path: Path
) -> None:
    probes, _ = variants
    for one, (_, ops) in rewritten(probes, tmp_path, MACHINE, [CROSS.cc]).items():
        check_object(probes[one], ops, MACHINE)


# struct page of csrc/page.h.
FLAGS, WORD, MAPPING, PRIVATE, MAPCOUNT, REFCOUNT = 0, 8, 24, 40, 48, 52
OF_THE_HEAD = {
    "lookup": set[int](),
    "chain": set[int](),
    "flags": {FLAGS},
    "get": {REFCOUNT},
    "gup": {REFCOUNT},
    "zap": {MAPPING, FLAGS, MAPCOUNT},
}


def expected(one: Loop, index: int, order: int) -> set[int]:
    """Where, from the memmap's beginning, a lookup of this page has to touch it."""
    variant, size, name = one
    page, head = index * size, (index >> order << order) * size
    # One that starts a page of the memmap may be a fake head: is it a folio's, and what has the next word?
    asked = variant.startswith("fakehead") and page % 4096 == 0 and page == head
    fake = {page + FLAGS, *([page + size + WORD] if order else [])} if asked else set()
    if name == "prep":
        return {head + PRIVATE} | {head + i * size + WORD for i in range(1, 1 << order)}
    if name == "try_get":
        return {page + REFCOUNT} | fake
    if variant == "identity":
        return {page + at for at in OF_THE_HEAD[name]}
    return {page + WORD} | {head + at for at in OF_THE_HEAD[name]} | fake


@pytest.mark.slow
@pytest.mark.parametrize(("order", "pages"), [(0, 80), (2, 128)])
def test_every_loop_does_the_same_and_records_what_it_touches(
    variants: tuple[dict[Loop, core.Probe], list[Path]], order: int, pages: int, tmp_path: Path
) -> None:
    probes, objects = variants
    program, made = program_of(probes, {one: one for one in probes}, objects, tmp_path)
    for one, (found, base, offsets) in run(program, made, order, pages).items():
        variant, size, name = one
        ops = decode(probes[one], MACHINE)
        assert found.site_numbers == walked(ops, probes[one].run, found.sites, found.outcomes), one
        step = 1 << order if name == "prep" else 1
        lookups: list[set[int]] = []
        for kind, width, at in found.accesses:
            if offsets <= at < offsets + 4 * pages:
                assert (kind, width, at) == ("load", 4, offsets + 4 * len(lookups)), one
                lookups.append(set())
            elif base <= at < base + pages * size + 64:
                lookups[-1].add(at - base)
            else:  # a counter of RCU, on the stack
                assert variant.startswith("fakehead") and name == "try_get", one
        assert lookups == [expected(one, index, order) for index in range(0, pages, step)], one
        kinds = {kind for kind, _, _ in found.accesses}
        reads = name in {"lookup", "chain", "flags"} or (name == "prep" and not order)
        assert kinds == ({"load"} if reads else {"load", "store"}), one
        if variant == "pointer-branch" and name == "lookup" and order:
            # One branch a lookup is the loop's, the other asks for a tail.
            tail = [bool(index % (1 << order)) for index in range(pages)]
            assert found.outcomes[0::2] == tail or found.outcomes[1::2] == tail


# ---- By hand.

# Instructions, before a ret; of each access kind, bytes, and how far it is from x0, or from the result.
ACCESSES: Mapping[str, list[tuple[str, int, int]]] = {
    "ldr x3, [x0]": [("load", 8, 0)],
    "ldr w3, [x0, #4]": [("load", 4, 4)],
    "ldrb w3, [x0, #1]": [("load", 1, 1)],
    "ldrh w3, [x0, #2]": [("load", 2, 2)],
    "ldrsb x3, [x0, #1]": [("load", 1, 1)],
    "ldrsh x3, [x0, #2]": [("load", 2, 2)],
    "ldrsw x3, [x0, #12]": [("load", 4, 12)],
    "ldur x3, [x0, #-8]": [("load", 8, -8)],
    "ldursw x3, [x0, #-4]": [("load", 4, -4)],
    "ldr x3, [x0, #4088]": [("load", 8, 4088)],
    "ldr x3, [x0, #4096]": [("load", 8, 4096)],
    "ldr x3, [x0, #32760]": [("load", 8, 32760)],
    "ldr x3, [x0], #16; ldr x4, [x0]": [("load", 8, 0), ("load", 8, 16)],
    "ldr x3, [x0], #-16; ldr x4, [x0]": [("load", 8, 0), ("load", 8, -16)],
    "ldr x3, [x0, #16]!; ldr x4, [x0]": [("load", 8, 16), ("load", 8, 16)],
    "ldr x3, [x0, #-16]!; ldr x4, [x0]": [("load", 8, -16), ("load", 8, -16)],
    "mov x3, #24; ldr x4, [x0, x3]": [("load", 8, 24)],
    "mov x3, #3; ldr x4, [x0, x3, lsl #3]": [("load", 8, 24)],
    "mov x3, #-3; ldr x4, [x0, x3, lsl #3]": [("load", 8, -24)],
    "mov x3, #3; movk x3, #1, lsl #32; ldr x4, [x0, w3, uxtw #3]": [("load", 8, 24)],
    "mov x3, #8; movk x3, #1, lsl #32; ldr x4, [x0, w3, uxtw]": [("load", 8, 8)],
    "mov w3, #-2; ldr x4, [x0, w3, sxtw #3]": [("load", 8, -16)],
    "mov x3, #-16; ldr x4, [x0, x3, sxtx]": [("load", 8, -16)],
    "ldp x3, x4, [x0, #16]": [("load", 16, 16)],
    "ldp w3, w4, [x0, #8]": [("load", 8, 8)],
    "ldpsw x3, x4, [x0, #8]": [("load", 8, 8)],
    "ldnp x3, x4, [x0]": [("load", 16, 0)],
    "ldp x3, x4, [x0], #16; ldp x3, x4, [x0, #16]!": [("load", 16, 0), ("load", 16, 32)],
    "str x3, [x0, #8]": [("store", 8, 8)],
    "str wzr, [x0, #4]": [("store", 4, 4)],
    "str xzr, [x0], #8; str xzr, [x0]": [("store", 8, 0), ("store", 8, 8)],
    "strb w3, [x0, #5]": [("store", 1, 5)],
    "strh w3, [x0, #6]": [("store", 2, 6)],
    "stur w3, [x0, #-12]": [("store", 4, -12)],
    "stp x3, x4, [x0, #-16]!": [("store", 16, -16)],
    "stp xzr, xzr, [x0, #32]": [("store", 16, 32)],
    "ldar x3, [x0]; stlr w3, [x0]; stlrb w3, [x0]": [("load", 8, 0), ("store", 4, 0), ("store", 1, 0)],
    "ldxr w3, [x0]; stxr w4, w3, [x0]": [("load", 4, 0), ("store", 4, 0)],
    "ldaxr x3, [x0]; stlxr w4, x3, [x0]": [("load", 8, 0), ("store", 8, 0)],
    "ldxrb w3, [x0]; stxrb w4, w3, [x0]": [("load", 1, 0), ("store", 1, 0)],
    "ldxp x3, x4, [x0]; stxp w5, x3, x4, [x0]": [("load", 16, 0), ("store", 16, 0)],
    "ldadd w3, w4, [x0]": [("update", 4, 0)],
    "ldaddal x3, x4, [x0]": [("update", 8, 0)],
    "ldclrb w3, w4, [x0]": [("update", 1, 0)],
    "stadd w3, [x0]": [("update", 4, 0)],
    "stsmaxh w3, [x0]": [("update", 2, 0)],
    "swp x3, x4, [x0]": [("update", 8, 0)],
    "swpb w3, w4, [x0]": [("update", 1, 0)],
    "cas w3, w4, [x0]": [("update", 4, 0)],
    "casalh w3, w4, [x0]": [("update", 2, 0)],
    "casp x4, x5, x6, x7, [x0]": [("update", 16, 0)],
    "prfm pldl1keep, [x0]": [],
    "b 1f; ldr x3, [x0]; 1: ldr x3, [x0, #8]": [("load", 8, 8)],
}
ON_STACK = (
    "sub sp, sp, #32; mov x0, sp; str x3, [sp, #8]; mov x3, #2; ldr x4, [sp, x3, lsl #3]; add sp, sp, #32"
)
CONDITIONS = ["eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"]
# With n in x2; whether each is taken for n of 1, 2, 3.
JUMPS = {
    "sub x3, x2, #2; cbz x3, 1f": (False, True, False),
    "sub x3, x2, #2; cbnz x3, 1f": (True, False, True),
    "sub w3, w2, #2; cbz w3, 1f": (False, True, False),
    "sub w3, w2, #2; cbnz w3, 1f": (True, False, True),
    "lsl x3, x2, #32; cbz w3, 1f": (True, True, True),
    "lsl x3, x2, #32; cbnz x3, 1f": (True, True, True),
    "tbz w2, #0, 1f": (False, True, False),
    "tbnz w2, #0, 1f": (True, False, True),
    "tbz w2, #1, 1f": (True, False, False),
    "lsl x3, x2, #40; tbnz x3, #41, 1f": (False, True, True),
    "lsl x3, x2, #62; tbz x3, #63, 1f": (True, False, False),
}


def by_hand(texts: dict[str, str], scratch: Path) -> tuple[Path, dict[Any, recording.Recording]]:
    codes = assembled([f"{text}; ret" for text in texts.values()], MACHINE, (CROSS.cc,))
    probes = {name: probe(code, (0, 0)) for name, code in zip(texts, codes, strict=True)}
    # The program wants one.
    variant = scratch / "variant.o"
    compiler.compile_object([CROSS.cc], ["-O2"], CSRC / "variants" / "identity.c", variant)
    return program_of(probes, dict.fromkeys(texts, ("", 0, "")), [variant], scratch)


@pytest.mark.slow
def test_accesses_by_hand(tmp_path: Path) -> None:
    program, made = by_hand({text: text for text in (*ACCESSES, ON_STACK)}, tmp_path)
    for text, (found, base, _) in run(program, made, 0, 1).items():
        if text == ON_STACK:
            assert found.accesses == [("store", 8, found.last + 8), ("load", 8, found.last + 16)]
            continue
        assert [(kind, size, at - base) for kind, size, at in found.accesses] == ACCESSES[text], text


@pytest.mark.slow
def test_conditional_jumps_by_hand(tmp_path: Path) -> None:
    """Each of them behind accesses that are recorded: what it sees of the flags is not theirs."""
    texts = {name: f"cmp x2, #2; ldr x3, [x0]; str x3, [x0, #8]; b.{name} 1f" for name in CONDITIONS}
    texts |= {text: f"ldr x4, [x0]; str x4, [x0, #8]; {text}" for text in JUMPS}
    program, made = by_hand(
        {name: f"{text}; ldr x4, [x0, #16]; ldr x4, [x0, #24]; 1: nop" for name, text in texts.items()},
        tmp_path,
    )
    for n in (1, 2, 3):
        found = {name: its for name, (its, _, _) in run(program, made, 0, n).items()}
        for name, its in found.items():
            assert len(its.accesses) == (2 if its.outcomes == [True] else 4), name
        for name, opposite in zip(CONDITIONS[::2], CONDITIONS[1::2], strict=True):
            assert found[name].outcomes != found[opposite].outcomes
        assert found["eq"].outcomes == [n == 2]
        assert found["lo"].outcomes == found["lt"].outcomes == found["mi"].outcomes == [n < 2]
        for text, taken in JUMPS.items():
            assert found[text].outcomes == [taken[n - 1]], (text, n)


REFUSED = {
    "bl 1f; 1: ret": "`bl #4` at 0x0 goes elsewhere",
    "blr x3; ret": "`blr x3` at 0x0 goes elsewhere",
    "br x3; ret": "`br x3` at 0x0 goes elsewhere",
    "svc #0; ret": "`svc #0` at 0x0 goes elsewhere",
    "adr x3, 1f; 1: ret": "`adr x3, #4` at 0x0 goes elsewhere",
    "adrp x3, 1f; 1: ret": "`adrp x3, .*` at 0x0 goes elsewhere",
    "ldr x3, 1f; ret; 1: .quad 0x1f2003d51f2003d5": "`ldr x3, .*` at 0x0",
    "b . + 0x100; ret": "`b #0x100` at 0x0 goes elsewhere",
    "cbz x3, . - 8; ret": "`cbz x3, .*` at 0x0 goes elsewhere",
    "ldr q0, [x0]; ret": r"`ldr q0, \[x0\]` at 0x0 does what is not known",
    "ld1 {v0.16b}, [x0]; ret": r"`ld1 {v0.16b}, \[x0\]` at 0x0 does what is not known",
    "dc zva, x0; ret": "`dc zva, x0` at 0x0",
    "; ".join(f"mov x{n}, x2" for n in (*range(3, 16), *range(19, 28))) + "; ret": (
        "its loop leaves 1 registers free, and 2 are needed"
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_recorded_is_refused_by_name(text: str) -> None:
    (code,) = assembled([text], MACHINE, (CROSS.cc,))
    with pytest.raises(PagebenchError, match=f"cannot be recorded: .*{REFUSED[text]}") as error:
        recording.rewrite(probe(code, (0, 0)), "loop", MACHINE)
    assert "\n" not in str(error.value)

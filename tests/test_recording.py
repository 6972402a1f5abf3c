"""Loops that record: they do what the timed ones do, and tell all of it.

The rewrite for aarch64 runs under qemu: see the end.
"""

from __future__ import annotations

import ctypes
import dataclasses
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hand_made
import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from hand_made import assembled, loop, run_all, walked
from kernel_trees import TREES, tree_of, variant_of, with_trees

from pagebench import core, names
from pagebench.cache import recorded
from pagebench.code import recording
from pagebench.code.disassembly import Op, decode
from pagebench.errors import PagebenchError
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import MappedMemmap
from pagebench.names import BUILT_IN_STRUCT_PAGES
from pagebench.variants import compiled, compiler
from pagebench.variants.kernel import build

pytestmark = pytest.mark.usefixtures("own_cache")
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="hand-made code is x86-64's")
LOOP = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def probes_of(variants: Mapping[str, core.Variant]) -> dict[recorded.Loop, core.Probe]:
    return {(v.name, name): probe for v in variants.values() for name, probe in v.probes.items()}


# ---- What the loop does, the recording one does.


def check_variant(
    variant: core.Variant,
    ready: recorded.Recorded,
    layout: str = "plain",
    order: int = 2,
    probes: tuple[str, ...] = (),
) -> None:
    """Both loops of every probe, page by page and all at once: results, memory, the way that was taken."""
    folio_map = FolioMap.uniform(order, 2 * variant.struct_page_bytes << order, variant.struct_page_bytes)
    with MappedMemmap(layout, folio_map) as memmap, core.Recorder(ready.loops, 1 << 17) as recorder:
        view = core.view(memmap.base, folio_map.bytes)

        def done(run: Any, offsets: core.Offsets) -> tuple[list[int | None], bytes]:
            memmap.write(variant, True)
            results = [run(offsets[i : i + 1]) for i in range(len(offsets))]
            results.append(run(offsets))
            return results, view.tobytes()

        for name in probes or variant.probes:
            probe = variant.probes[name]
            offsets = folio_map.page_offsets
            if probe.writes_tails:
                offsets = folio_map.offsets_of(folio_map.pfns)
            timed = LOOP(probe.run)
            one = (variant.name, name)
            ops, sites = decode(probe), ready.sites[one]

            def recording_run(part: core.Offsets, one: recorded.Loop = one) -> int | None:
                return recorder.run(ready.runs[one], memmap.base, part)[1] or None

            expected = done(lambda part: timed(memmap.base, part.ctypes.data, len(part)), offsets)  # noqa: B023
            assert done(recording_run, offsets) == expected, one
            found = hand_made.records_of(recorder, ready, one, memmap.base, offsets)
            assert found.site_numbers == walked(ops, probe.run - probe.start, sites, found.outcomes), one


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_every_built_in_loop_does_the_same(struct_page_bytes: int) -> None:
    variants = core.built_in_variants(struct_page_bytes)
    ready = recorded.record(probes_of(variants))
    assert not ready.refused
    for variant in variants.values():
        check_variant(variant, ready)


@pytest.mark.parametrize(("name", "layout"), [("fakehead", "hvo"), ("mask", "hvo-shared")])
def test_so_it_does_over_optimized_memmaps(name: str, layout: str) -> None:
    variant = core.built_in_variants()[name]
    check_variant(variant, recorded.record(probes_of({name: variant})), layout, 7, ("lookup", "chain"))


def test_so_does_a_variant_of_the_users_own(mine: Path) -> None:
    (variant,) = core.load_variants(compiled.user_variant("mine", mine)).values()
    check_variant(variant, recorded.record(probes_of({"mine": variant})))


@with_trees
@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_so_do_kernel_trees(name: str) -> None:
    for built in build.build("tree", tree_of(name)):
        variant = variant_of(built)
        ready = recorded.record(probes_of({variant.name: variant}))
        assert not ready.refused
        check_variant(variant, ready)


# ---- What the rewritten object is made of.


def rewritten(
    probes: Mapping[recorded.Loop, core.Probe], scratch: Path, machine: str, cc: list[str]
) -> dict[recorded.Loop, tuple[recording.Recording, dict[int, Op]]]:
    """Each loop's recording, and the instructions of its function in an object, by offset."""
    recordings = {
        one: recording.rewrite(probe, f"loop_{number}", machine)
        for number, (one, probe) in enumerate(probes.items())
    }
    source, object_file = scratch / "all.s", scratch / "all.o"
    source.write_text(recorded.assembly(recordings))
    compiler.run([*cc, "-c", source, "-o", object_file])
    with object_file.open("rb") as file:
        elf: Any = ELFFile(file)
        text = elf.get_section_by_name(".text").data()
        symbols = {symbol.name: symbol for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
        found = {}
        for one, made in recordings.items():
            at, size = symbols[made.symbol]["st_value"], symbols[made.symbol]["st_size"]
            body = dataclasses.replace(probes[one], code=text[at : at + size])
            found[one] = made, decode(body, machine)
        return found


def check_object(probe: core.Probe, ops: Mapping[int, Op], machine: str) -> None:
    """The timed instructions, in order and as they are; what is between them leaves no trace."""
    original = decode(probe, machine)
    used = set().union(*(op.reads | op.writes for op in original.values()))
    every = list(ops.values())
    # Behind the wrapper around the loop.
    begin = next(i for i, op in enumerate(every) if op.name == "ret") + 1
    rest = iter(
        [op for op in every[begin:] if not (op.name == "nop" and op.offset < every[begin].offset + 16)]
    )
    for op in original.values():
        for new in rest:
            if op.target is not None and (new.name, new.args[:-1]) == (op.name, op.args[:-1]):
                break
            if (new.mnemonic, new.operands) == (op.mnemonic, op.operands):
                break
            assert not new.writes & used, (str(op), str(new))
            assert "flags" not in new.writes
            if new.memory and new.name != "lea":
                (cursor,) = {name for name in new.reads - {"flags"} if name in new.memory}
                assert cursor not in used
        else:
            pytest.fail(f"{op} is not there")


@pytest.mark.parametrize("struct_page_bytes", BUILT_IN_STRUCT_PAGES)
def test_what_is_added_touches_nothing_of_the_loops(struct_page_bytes: int, tmp_path: Path) -> None:
    probes = probes_of(core.built_in_variants(struct_page_bytes))
    machine = platform.machine()
    for one, (_, ops) in rewritten(probes, tmp_path, machine, compiler.find()).items():
        check_object(probes[one], ops, machine)


def test_timed_bytes_are_there_as_they_are() -> None:
    probe = core.built_in_variants()["pointer-branch"].probes["get"]
    made = recording.rewrite(probe, "loop")
    listed = [line[6:].split(", ") for line in made.assembly.splitlines() if line.startswith(".byte")]
    as_is = b"".join(bytes(int(byte, 16) for byte in line) for line in listed)
    jumps = {op.offset: op.size for op in decode(probe).values() if op.target is not None}
    assert jumps
    kept = [byte for at, byte in enumerate(probe.code) if not any(j <= at < j + n for j, n in jumps.items())]
    assert as_is == bytes(kept)


# ---- By hand.

# Instructions, before a ret; what each access is: kind, bytes, and how far from rdi, from rsi, or from where
# the return address is on the stack.
ACCESSES: Mapping[str, list[tuple[str, int, str, int]]] = {
    "mov rax, [rdi]": [("load", 8, "base", 0)],
    "mov eax, [rdi + 4]": [("load", 4, "base", 4)],
    "movzx eax, byte ptr [rdi + 1]": [("load", 1, "base", 1)],
    "movsxd rax, dword ptr [rdi + 12]": [("load", 4, "base", 12)],
    "mov ax, [rsi - 2 + 2]": [("load", 2, "offsets", 0)],
    "mov ecx, 3; mov rax, [rdi + rcx*8 - 16]": [("load", 8, "base", 8)],
    "mov word ptr [rdi + 2], 7": [("store", 2, "base", 2)],
    "mov [rdi + 40], rax": [("store", 8, "base", 40)],
    "lock add dword ptr [rdi + 52], 1": [("update", 4, "base", 52)],
    "mov eax, 1; lock cmpxchg [rdi], rcx": [("update", 8, "base", 0)],
    "lock xadd [rdi + 8], eax": [("update", 4, "base", 8)],
    "xchg [rdi + 16], rax": [("update", 8, "base", 16)],
    "inc qword ptr [rdi + 24]": [("update", 8, "base", 24)],
    "or byte ptr [rdi + 33], 64": [("update", 1, "base", 33)],
    "cmp qword ptr [rdi], 1": [("load", 8, "base", 0)],
    "cmp rax, [rdi + 8]": [("load", 8, "base", 8)],
    "test byte ptr [rdi + 8], 1": [("load", 1, "base", 8)],
    "bt qword ptr [rdi + 8], 0": [("load", 8, "base", 8)],
    "add rax, [rdi + 56]": [("load", 8, "base", 56)],
    "cmove rax, [rdi + 8]": [("load", 8, "base", 8)],
    "mov eax, 2; mul qword ptr [rdi + 16]": [("load", 8, "base", 16)],
    "xor edx, edx; mov eax, 8; mov qword ptr [rdi], 4; div qword ptr [rdi]": [
        ("store", 8, "base", 0),
        ("load", 8, "base", 0),
    ],
    "setb byte ptr [rdi + 9]": [("store", 1, "base", 9)],
    "push rbx; pop rbx": [("store", 8, "stack", -8), ("load", 8, "stack", -8)],
    "sub rsp, 24; mov [rsp + 12], eax; mov eax, [rsp + 12]; add rsp, 24": [
        ("store", 4, "stack", -12),
        ("load", 4, "stack", -12),
    ],
    # Below the stack, where nobody else writes.
    "mov [rsp - 8], rax; mov eax, [rsp - 8]": [("store", 8, "stack", -8), ("load", 4, "stack", -8)],
    "lea rax, [rdi + 8]; nop dword ptr [rax]": [],
    "jmp 1f; mov rax, [rdi]; 1: mov rax, [rdi + 8]": [("load", 8, "base", 8)],
}


@on_x86
def test_accesses_by_hand() -> None:
    memory, offsets = np.zeros(64, np.uint64), np.zeros(1, np.uint32)
    at = {"base": memory.ctypes.data, "offsets": offsets.ctypes.data}
    probes = {text: loop(f"{text}; ret") for text in ACCESSES}
    for text, found in run_all(probes, memory.ctypes.data, offsets):
        *mine, (kind, size, stack) = found.accesses
        assert (kind, size) == ("load", 8)
        begins = at | {"stack": stack}
        expected = [(kind, size, begins[what] + away) for kind, size, what, away in ACCESSES[text]]
        assert mine == expected, text
        offsets_in_code = {op.offset: op for op in decode(probes[text]).values()}
        assert all(offsets_in_code[site.offset].memory for site in found.sites[:-1] if "push" not in text)


CONDITIONS = (
    ["e", "ne", "b", "ae", "a", "be", "l", "ge", "g", "le", "s", "ns", "o", "no", "p", "np"],
    (1, 2, 3),
)


@on_x86
@pytest.mark.parametrize("lookups", CONDITIONS[1])
def test_conditional_jumps_by_hand(lookups: int) -> None:
    """Each of them behind accesses that are recorded: what it sees of the flags is not theirs."""
    memory, offsets = np.zeros(64, np.uint64), np.zeros(lookups, np.uint32)
    probes = {
        name: loop(
            f"cmp rdx, 2; mov rax, [rdi]; mov [rdi + 8], rax; j{name} 1f; "
            "mov ecx, [rdi + 16]; mov ecx, [rdi + 24]; 1: ret"
        )
        for name in CONDITIONS[0]
    }
    taken = dict(run_all(probes, memory.ctypes.data, offsets))
    for name, found in taken.items():
        assert len(found.accesses) == (3 if found.outcomes == [True] else 5), name
    for name, opposite in zip(CONDITIONS[0][::2], CONDITIONS[0][1::2], strict=True):
        assert taken[name].outcomes != taken[opposite].outcomes
    less = lookups < 2
    assert taken["b"].outcomes == taken["l"].outcomes == taken["s"].outcomes == [less]
    assert taken["e"].outcomes == [lookups == 2]


@on_x86
def test_results_and_registers_of_the_caller_survive() -> None:
    memory, offsets = np.arange(64, dtype=np.uint64), np.zeros(1, np.uint32)
    # Takes all that a function may use without saving it, and looks at the arguments last.
    text = "mov rax, [rdi + 40]; mov ecx, eax; mov r8, rcx; lea rax, [r8 + rdx]; mov r9d, [rsi]; ret"
    ((_, found),) = run_all({"": loop(text)}, memory.ctypes.data, offsets)
    assert found.last == 5 + 1


@on_x86
def test_what_goes_by_its_own_place_finds_it_elsewhere() -> None:
    text = (
        "mov rax, [rip + 1f]; lea rcx, [rip + 2f]; add rax, [rcx]; lock add dword ptr [rip + 2f], 7; "
        "cmp byte ptr [rip + 2f], 9; jne 3f; add rax, 100; 3: ret; .balign 8; 1: .quad 30; 2: .quad 2"
    )
    (code,) = assembled([text])
    room = np.frombuffer(bytearray(code), np.uint8)
    instructions = len(code) - 16
    while code[instructions - 1] != 0xC3:
        instructions -= 1
    one = dataclasses.replace(
        hand_made.probe(code[:instructions], (0, 0)), start=room.ctypes.data, run=room.ctypes.data
    )
    data = room.ctypes.data + len(code) - 16
    ((_, found),) = run_all({"": one}, 0, np.zeros(1, np.uint32))
    assert found.last == 30 + 2 + 100
    assert [at for _, _, at in found.accesses[:-1]] == [data, data + 8, data + 8, data + 8]
    assert [kind for kind, _, _ in found.accesses[:-1]] == ["load", "load", "update", "load"]
    assert room[len(code) - 8] == 9


REFUSED = {
    "call 1f; 1: ret": r"`call 5` at 0x0 goes elsewhere",
    "call rax; ret": r"`call rax` at 0x0 goes elsewhere",
    "rep movsb; ret": r"`rep movsb .*` at 0x0 does what is not known",
    "rep stosq; ret": r"`rep stosq .*` at 0x0 does what is not known",
    "lodsb; ret": r"`lodsb .*` at 0x0 does what is not known",
    "1: jrcxz 1b; ret": r"`jrcxz 0` at 0x0",
    "1: loop 1b; ret": r"`loop 0` at 0x0",
    "jmp rax; ret": r"`jmp rax` at 0x0 goes elsewhere",
    "jmp [rax]; ret": r"`jmp qword ptr \[rax\]` at 0x0",
    "nop; je . + 0x102; ret": r"`je 0x103` at 0x1 goes elsewhere",
    "jmp . - 0x10; ret": r"`jmp .*` at 0x0 goes elsewhere",
    "mov rax, fs:[0x28]; ret": r"`mov rax, qword ptr fs:\[0x28\]` at 0x0 does what is not known",
    "mov rax, gs:[rcx]; ret": r"`mov rax, qword ptr gs:\[rcx\]` at 0x0 does what is not known",
    "push qword ptr [rdi]; ret": r"`push qword ptr \[rdi\]` at 0x0",
    "pop qword ptr [rdi]; ret": r"`pop qword ptr \[rdi\]` at 0x0",
    "leave; ret": r"`leave ` at 0x0",
    "pushfq; popfq; ret": r"`pushfq ` at 0x0",
    "movaps xmm0, [rdi]; ret": r"`movaps xmm0, xmmword ptr \[rdi\]` at 0x0 does what is not known",
    "lock cmpxchg16b [rdi]; ret": r"cmpxchg16b xmmword ptr \[rdi\]` at 0x0 does what is not known",
    "syscall; ret": r"`syscall ` at 0x0",
    "; ".join(f"inc {name}" for name in ["rax", "rbx", "rcx", "rbp", "r8", "r9", "r10", "r11", "r12", "r13"])
    + "; ret": ("its loop leaves 2 registers free, and 3 are needed"),
}


@on_x86
@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_recorded_is_refused_by_name(text: str) -> None:
    with pytest.raises(
        PagebenchError, match=rf"the probe lookup cannot be recorded: .*{REFUSED[text]}"
    ) as error:
        recording.rewrite(loop(text), "loop")
    assert "\n" not in str(error.value)


@on_x86
def test_three_free_registers_are_enough() -> None:
    saved = ["rbx", "r12", "r13"]
    taken = [f"mov {name}, rdx" for name in [*saved, "rax", "rcx", "r8", "r9", "r10", "r11"]]
    pushed, popped = [f"push {name}" for name in saved], [f"pop {name}" for name in reversed(saved)]
    one = loop("; ".join([*pushed, *taken, *popped, "mov rax, [rdi]", "ret"]))
    memory = np.full(1, 77, np.uint64)
    ((_, found),) = run_all({"": one}, memory.ctypes.data, np.zeros(1, np.uint32))
    assert found.last == 77
    assert [kind for kind, _, _ in found.accesses] == [*["store"] * 3, *["load"] * 5]


def test_an_unknown_architecture_is_an_error() -> None:
    probe = core.built_in_variants()[names.IDENTITY].probes["lookup"]
    with pytest.raises(PagebenchError, match="not for riscv64"):
        recording.rewrite(probe, "loop", "riscv64")

"""Structs out of BTF: made by hand, damaged, and the running kernel's beside what pahole makes of it."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pagebench.errors import PagebenchError
from pagebench.host import btf

VMLINUX = Path("/sys/kernel/btf/vmlinux")
needs_btf = pytest.mark.skipif(not VMLINUX.exists(), reason=f"no {VMLINUX}: a kernel without BTF")
needs_pahole = pytest.mark.skipif(shutil.which("pahole") is None, reason="no pahole (apt: pahole or dwarves)")

Members = Sequence[tuple[str, int, int]]


class Types:
    """BTF by hand: each method adds a type and returns its number."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.strings = b"\0"
        self.types = b""
        self.count = 0

    def add(self, kind: int, name: str, word: int, *extra: int, vlen: int = 0, flag: bool = False) -> int:
        info = kind << 24 | vlen | flag << 31
        self.types += struct.pack(f"{self.order}{3 + len(extra)}I", self.string(name), info, word, *extra)
        self.count += 1
        return self.count

    def string(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def int(self, name: str, size: int) -> int:
        return self.add(btf.INT, name, size, size * 8)

    def pointer(self, to: int = 0) -> int:
        return self.add(btf.PTR, "", to)

    def array(self, of: int, length: int) -> int:
        return self.add(btf.ARRAY, "", 0, of, of, length)

    def struct(self, name: str, size: int, members: Members, kind: int = btf.STRUCT) -> int:
        """Members as (name, type, offset in bytes)."""
        words = [word for n, number, at in members for word in (self.string(n), number, at * 8)]
        return self.add(kind, name, size, *words, vlen=len(members))

    def union(self, name: str, size: int, members: Members) -> int:
        return self.struct(name, size, members, btf.UNION)

    def data(self, layouts: bytes = b"") -> bytes:
        header = struct.calcsize("=HBBIIIII") + (8 if layouts else 0)
        size = len(self.types)
        fields = (btf.MAGIC, 1, 0, header, 0, size, size, len(self.strings))
        data = struct.pack(f"{self.order}HBBIIIII", *fields)
        if layouts:
            data += struct.pack(f"{self.order}II", size + len(self.strings), len(layouts))
        return data + self.types + self.strings + layouts


def like_page(order: str = "<") -> Types:
    """A struct page of the kernel's shape, with one of each kind of type about it."""
    types = Types(order)
    long, short = types.int("long unsigned int", 8), types.int("int", 4)
    counter = types.add(btf.TYPEDEF, "atomic_t", types.struct("", 4, [("counter", short, 0)]))
    list_head = types.struct("list_head", 16, [("next", types.pointer(), 0), ("prev", types.pointer(), 8)])
    types.add(btf.FWD, "page", 0)
    types.add(btf.FUNC_PROTO, "", 0, 0, long, vlen=1)
    types.add(btf.FUNC, "page", types.count)
    types.add(btf.TYPEDEF, "page", long)
    types.add(btf.ENUM, "pageflags", 4, types.string("PG_head"), 6, vlen=1)
    types.add(btf.ENUM64, "wide", 8, types.string("W"), 0, 1, vlen=1)
    types.add(btf.FLOAT, "double", 8)
    types.add(btf.VAR, "mem_map", long, 0)
    types.add(btf.DATASEC, ".data", 8, types.count, 0, 8, vlen=1)
    types.add(btf.DECL_TAG, "tag", long, 0xFFFFFFFF)
    lru = types.union("", 16, [("lru", list_head, 0), ("buddy_list", list_head, 0)])
    mapped = types.struct("", 24, [("", lru, 0), ("mapping", types.pointer(), 16)])
    tail = types.struct("", 8, [("compound_head", long, 0)])
    constant = types.add(btf.CONST, "", types.add(btf.VOLATILE, "", tail))
    either = types.union("", 24, [("", mapped, 0), ("", constant, 0)])
    page = [("flags", long, 0), ("", either, 8), ("_refcount", counter, 52)]
    types.struct("page", 64, page)
    types.struct("page", 8, [("another", long, 0)])
    return types


PAGE = like_page().data()


@pytest.mark.parametrize("order", ["<", ">"])
def test_members_of_anonymous_structs_and_unions_are_the_structs_own(order: str) -> None:
    page = btf.Btf(like_page(order).data()).struct("page")
    assert page is not None
    assert (page.name, page.size_bytes) == ("page", 64)  # the first of two, not the typedef or function
    assert [(member.name, member.offset_bytes, member.size_bytes) for member in page.members] == [
        ("flags", 0, 8),
        ("lru", 8, 16),
        ("buddy_list", 8, 16),
        ("mapping", 24, 8),
        ("compound_head", 8, 8),
        ("_refcount", 52, 4),
    ]
    assert page.member("mapping") == btf.Member("mapping", 192, 8)
    assert page.member("counter") is None  # of a struct that has a name


def test_unknown_names_are_none() -> None:
    types = btf.Btf(PAGE)
    assert [types.struct(name) for name in ("pag", "page_", "", "atomic_t", "flags")] == [None] * 5


def test_arrays() -> None:
    types = Types()
    short = types.int("short", 2)
    row = types.array(short, 5)
    table = types.array(types.add(btf.TYPEDEF, "row_t", row), 3)
    members = [("table", table, 0), ("none", types.array(types.pointer(), 0), 32), ("one", short, 30)]
    types.struct("zone", 32, members)
    zone = btf.Btf(types.data()).struct("zone")
    assert zone is not None
    assert [(m.name, m.size_bytes, m.elements) for m in zone.members] == [
        ("table", 30, 15),
        ("none", 0, 0),
        ("one", 2, None),
    ]


@pytest.mark.parametrize(
    ("name", "size", "expected"), [("long int", 4, 4), ("long unsigned int", 8, 8), ("int", 4, 8)]
)
def test_a_pointer_is_as_wide_as_a_long(name: str, size: int, expected: int) -> None:
    types = Types()
    types.int(name, size)
    types.struct("list_head", 2 * size, [("next", types.pointer(), 0)])
    head = btf.Btf(types.data()).struct("list_head")
    assert head is not None
    assert head.members[0].size_bytes == expected


def test_bit_fields() -> None:
    types = Types()
    word = types.int("unsigned int", 4)
    fields = [types.string("order"), word, 5 << 24 | 35, types.string("whole"), word, 64]
    types.add(btf.STRUCT, "slab", 12, *fields, vlen=2, flag=True)
    slab = btf.Btf(types.data()).struct("slab")
    assert slab is not None
    assert slab.members == (btf.Member("order", 35, 4, None, 5), btf.Member("whole", 64, 4))
    assert [member.offset_bytes for member in slab.members] == [4, 8]


class TestKindsToCome:
    """Since v7.1 a kernel may say how long the types are that this version does not know."""

    @staticmethod
    def types() -> Types:
        types = Types()
        types.add(20, "new", 0, 1, 2, 3, 4, 5, vlen=2)
        types.struct("page", 64, [("flags", types.int("long unsigned int", 8), 0)])
        return types

    def test_without_layouts_they_are_an_error(self) -> None:
        with pytest.raises(PagebenchError, match="type 1 is of kind 20"):
            btf.Btf(self.types().data())

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_with_layouts_they_are_skipped(self, order: str) -> None:
        layouts = struct.pack("BBH", 0, 0, 0) * 20 + struct.pack("BBH", 4, 8, 0)
        page = btf.Btf(self.types().data(layouts)).struct("page")
        assert page is not None
        assert page.size_bytes == 64


def lookup(data: bytes) -> btf.Struct | None:
    return btf.Btf(data, "vmlinux").struct("page")


@given(st.integers(0, len(PAGE) - 1))
def test_cut_anywhere_it_is_one_clear_error(length: int) -> None:
    with pytest.raises(PagebenchError, match=r"^vmlinux is not BTF as this version reads it: .+$") as error:
        lookup(PAGE[:length])
    assert "\n" not in str(error.value)


@given(st.lists(st.tuples(st.integers(0, len(PAGE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@example([(24 + 12 * 9 + 3, 0xFF)])
def test_damaged_anywhere_it_is_read_or_an_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(PAGE)
    for at, value in changes:
        data[at] = value
    try:
        lookup(bytes(data))
    except PagebenchError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_noise_is_an_error(noise: bytes) -> None:
    for data in (noise, PAGE[:2] + noise, PAGE[:24] + noise):
        try:
            lookup(data)
        except PagebenchError as error:
            assert "\n" not in str(error)


def circular(what: str) -> bytes:
    types = Types()
    if what == "typedef":
        types.struct("page", 8, [("flags", types.add(btf.TYPEDEF, "t", 1), 0)])
    elif what == "array":
        types.struct("page", 8, [("flags", types.array(1, 2), 0)])
    elif what == "struct":
        types.struct("", 8, [("", 1, 0)])
        types.struct("page", 8, [("", 1, 0)])
    else:  # doubles at each level
        for level in range(64):
            types.struct("", 8, [("", level + 2, 0), ("", level + 2, 0)])
        types.struct("", 8, [])
        types.struct("page", 8, [("", 1, 0)])
    return types.data()


@pytest.mark.parametrize("what", ["typedef", "array", "struct", "doubling"])
def test_types_without_end_are_an_error(what: str) -> None:
    with pytest.raises(PagebenchError, match="vmlinux is not BTF"):
        lookup(circular(what))


def too_long() -> bytes:
    types = Types()
    types.add(btf.STRUCT, "page", 64, types.string("flags"), 1, 0, vlen=2)
    return types.data()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "starts with nothing"),
        (b"\x7fELF" + bytes(60), "starts with 7f45, not with BTF's magic"),
        (PAGE[:20], "ends within its header, after 20 bytes"),
        (PAGE[:2] + b"\x02" + PAGE[3:], "version 2 with a header of 24 bytes"),
        (PAGE[:-1], f"it has {len(PAGE) - 1} of {len(PAGE)} bytes"),
        (PAGE[:-1] + b"x", "end within a string"),
        (too_long(), "type 1 reaches beyond the others"),
    ],
)
def test_errors_say_what_is_wrong(data: bytes, says: str) -> None:
    with pytest.raises(PagebenchError, match=re.escape(says)):
        lookup(data)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match=r"cannot read .*vmlinux: No such file"):
        btf.read(tmp_path / "vmlinux")


@needs_btf
class TestThisKernel:
    """The running kernel's own types."""

    @pytest.fixture(scope="class")
    @staticmethod
    def types() -> btf.Btf:
        return btf.read(VMLINUX)

    def test_struct_page(self, types: btf.Btf) -> None:
        page = types.struct("page")
        assert page is not None
        flags, count = page.member("flags"), page.member("_refcount")
        assert flags is not None
        assert count is not None
        assert (flags.offset_bytes, count.size_bytes) == (0, 4)
        assert all(member.offset_bytes + member.size_bytes <= page.size_bytes for member in page.members)

    @needs_pahole
    @pytest.mark.parametrize("name", ["page", "folio", "zone", "pglist_data", "task_struct", "list_head"])
    def test_as_pahole_has_it(self, types: btf.Btf, name: str) -> None:
        command = ["pahole", "--structs", "-C", name, str(VMLINUX)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        size = re.search(r"^\t/\* size: (\d+)", text, re.MULTILINE)
        assert size, text
        text = re.sub(r" __attribute__\(\(.*\)\)", "", text)
        # name[2][3]; /* offset size */, name:bits; /* offset: bit size */, (*name)(...); /* offset size */
        pattern = r"(\w+)\)?(?:\([^;]*\)|(?:\[\d*\])*|:\d+);\s*/\*\s*(\d+)(?::\s*(\d+))?\s+(\d+)\s*\*/"
        theirs = {(n, 8 * int(at) + int(bit or 0), int(of)) for n, at, bit, of in re.findall(pattern, text)}
        ours = types.struct(name)
        assert ours is not None
        assert ours.size_bytes == int(size[1])
        assert ours.members
        assert {(m.name, m.offset_bits, m.size_bytes) for m in ours.members} <= theirs

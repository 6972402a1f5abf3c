"""Sizes and offsets of a kernel's structs, from the BTF that it carries.

The format is that of Documentation/bpf/btf.rst and <linux/btf.h>: a header, types of three words and more,
strings.  Types are numbered from 1 in the order in which they stand.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pagebench.errors import PagebenchError

MAGIC, VERSION = 0xEB9F, 1
HEADER, HEADER_LAYOUT = "HBBIIIII", "II"  # the latter since v7.1
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)

# What follows the three words of a type: so many words, and so many for each of its vlen elements.
EXTRA_WORDS = dict.fromkeys((PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG), (0, 0)) | {
    INT: (1, 0),
    ARRAY: (3, 0),
    STRUCT: (0, 3),
    UNION: (0, 3),
    ENUM: (0, 2),
    FUNC_PROTO: (0, 2),
    VAR: (1, 0),
    DATASEC: (0, 3),
    DECL_TAG: (1, 0),
    ENUM64: (0, 3),
}
SIZED = (INT, STRUCT, UNION, ENUM, FLOAT, ENUM64)  # their third word is their size in bytes
ALIASES = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)  # theirs is the type that they stand for
LONGS = ("long", "long int", "unsigned long", "long unsigned int")  # as wide as a pointer
# No kernel's types come near; what does is damaged.
MOST_ALIASES, MOST_MEMBERS = 64, 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A member, seen from the struct that it was looked up in.

    ``size_bytes`` is that of the whole array where ``elements`` counts any (all dimensions); ``bits`` is the
    width of a bit-field, None for everything else.
    """

    name: str
    offset_bits: int
    size_bytes: int
    elements: int | None = None
    bits: int | None = None

    @property
    def offset_bytes(self) -> int:
        """Where it starts, or the byte in which a bit-field does."""
        return self.offset_bits // 8


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct or union; members of anonymous ones within it are its own, as in C."""

    name: str
    size_bytes: int
    members: tuple[Member, ...]

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)


class Btf:
    """Parsed BTF.

    ``source`` names it in errors.  Raises PagebenchError, here and from lookups, where ``data`` is damaged.
    """

    def __init__(self, data: bytes, source: str = "BTF") -> None:
        self._source = source
        order = next((o for o in "<>" if data[:2] == struct.pack(f"{o}H", MAGIC)), None)
        fixed = struct.calcsize(f"={HEADER}")
        if order is None:
            raise self._damaged(f"it starts with {data[:2].hex() or 'nothing'}, not with BTF's magic")
        if len(data) < fixed:
            raise self._damaged(f"it ends within its header, after {len(data)} bytes")
        _, version, _, header, type_off, type_len, str_off, str_len = struct.unpack_from(order + HEADER, data)
        if version != VERSION or header < fixed:
            raise self._damaged(f"version {version} with a header of {header} bytes")
        needed = header + max(type_off + type_len, str_off + str_len)
        if len(data) < needed:
            raise self._damaged(f"it has {len(data)} of {needed} bytes")
        self._strings = data[header + str_off : header + str_off + str_len]
        if not self._strings.endswith(b"\0") or type_len % 4:
            raise self._damaged("its sections end within a string or a type")
        self._words = self._read_words(data[header + type_off : header + type_off + type_len], order)
        extra = self._layouts(data, order, header) | EXTRA_WORDS
        self._at: list[int] = []  # a type's first word
        self._structs: list[int] = []  # with a name
        self._pointer_bytes = 8
        self._index(extra)

    def struct(self, name: str) -> Struct | None:
        """The first struct or union of that name, None if there is none."""
        wanted = name.encode() + b"\0"
        for at in self._structs:
            start = self._words[at]
            if self._strings[start : start + len(wanted)] == wanted:
                return Struct(name, self._words[at + 2], tuple(self._members(at)))
        return None

    def _damaged(self, how: str) -> PagebenchError:
        return PagebenchError(f"{self._source} is not BTF as this version reads it: {how}")

    @staticmethod
    def _read_words(section: bytes, order: str) -> list[int]:
        words = array("I", section)
        if (order == "<") != (sys.byteorder == "little"):
            words.byteswap()
        return words.tolist()

    def _layouts(self, data: bytes, order: str, header: int) -> dict[int, tuple[int, int]]:
        """What v7.1 and later say of each kind, for those that came after this was written."""
        fixed = struct.calcsize(f"={HEADER}")
        if header < fixed + struct.calcsize(f"={HEADER_LAYOUT}"):
            return {}
        start, length = struct.unpack_from(order + HEADER_LAYOUT, data, fixed)
        rows = data[header + start : header + start + length - length % 4]
        sizes = struct.iter_unpack("BBH", rows)
        return {kind: (one // 4, each // 4) for kind, (one, each, _) in enumerate(sizes) if kind}

    def _index(self, extra: dict[int, tuple[int, int]]) -> None:
        """Find where each type starts, the structs and the size of a pointer."""
        words, at, end = self._words, 0, len(self._words)
        while at < end:
            # The wider fields of v7.1; up to v7.0 these bits are 0.
            kind, length = (words[at + 1] >> 24 & 0x7F, words[at + 1] & 0xFFFFFF) if at + 3 <= end else (0, 0)
            if kind not in extra:
                raise self._damaged(f"its type {len(self._at) + 1} is of kind {kind}")
            fixed, each = extra[kind]
            self._at.append(at)
            if kind in (STRUCT, UNION) and words[at]:
                self._structs.append(at)
            elif kind == INT and words[at + 2] in (4, 8) and self._name(words[at]) in LONGS:
                self._pointer_bytes = words[at + 2]
            at += 3 + fixed + each * length
        if at != end:
            raise self._damaged(f"its type {len(self._at)} reaches beyond the others")

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise self._damaged(f"a name at byte {offset} of {len(self._strings)} of strings")
        return self._strings[offset:end].decode("ascii", "replace")

    def _resolve(self, number: int) -> tuple[int, int]:
        """What a type stands for: where it starts, and its kind."""
        for _ in range(MOST_ALIASES):
            if not 0 < number <= len(self._at):
                break
            at = self._at[number - 1]
            kind = self._words[at + 1] >> 24 & 0x7F
            if kind not in ALIASES:
                return at, kind
            number = self._words[at + 2]
        raise self._damaged(f"a member's type {number} is none")

    def _shape(self, at: int, kind: int) -> tuple[int, int | None]:
        """Size in bytes of a type, and for arrays the number of their elements."""
        elements = None
        for _ in range(MOST_ALIASES):
            if kind != ARRAY:
                break
            elements = (1 if elements is None else elements) * self._words[at + 5]
            at, kind = self._resolve(self._words[at + 3])
        if kind != PTR and kind not in SIZED:
            raise self._damaged(f"a member of kind {kind}")
        size = self._pointer_bytes if kind == PTR else self._words[at + 2]
        return (size if elements is None else elements * size), elements

    def _members(self, at: int) -> Iterator[Member]:
        """Members by their order in the source, those of anonymous structs and unions in their place."""
        words = self._words
        waiting = [(at, 0, 0)]
        for _ in range(MOST_MEMBERS):
            if not waiting:
                return
            at, base, index = waiting.pop()
            if index >= words[at + 1] & 0xFFFFFF:
                continue
            waiting.append((at, base, index + 1))
            name_offset, number, offset = words[at + 3 + 3 * index : at + 6 + 3 * index]
            bits = None
            if words[at + 1] >> 31:
                bits, offset = offset >> 24 or None, offset & 0xFFFFFF
            name, (inner, kind) = self._name(name_offset), self._resolve(number)
            if name:
                yield Member(name, base + offset, *self._shape(inner, kind), bits)
            elif kind in (STRUCT, UNION):
                waiting.append((inner, base + offset, 0))
        raise self._damaged("a struct without end")


def read(path: Path) -> Btf:
    """The BTF in a file, as in /sys/kernel/btf/vmlinux.

    Raises PagebenchError for one that cannot be read or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PagebenchError(f"cannot read {path}: {error.strerror}") from error
    return Btf(data, str(path))

"""Static keys in a shared object that is not loaded yet, switched as the kernel does it.

A static branch is a nop or a jump; ``__jump_table`` has an entry for each (struct jump_entry of
include/linux/jump_label.h): where it is, where it jumps to, and whose it is, each relative to itself.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from pagebench import architecture
from pagebench.errors import PagebenchError

SECTION = "__jump_table"
ENTRY = struct.Struct("<iiq")
# The low bits of an entry's key: whether the branch is taken while the key is
# off, and one that objtool or the kernel leave there.
BRANCH, FLAGS = 1, 3
# Of what was found where a branch should be: all of the longest.
SHOWN_BYTES = 5


class Image:
    """The bytes of a shared object; addresses are those of its symbols."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._elf: Any = ELFFile(io.BytesIO(content))
        self._segments = [s for s in self._elf.iter_segments() if s["p_type"] == "PT_LOAD"]

    @classmethod
    def of(cls, path: Path) -> Image:
        """The shared object at ``path``.  Raises OSError."""
        return cls(path.read_bytes())

    def symbol(self, name: str) -> int | None:
        """Its address; None where it is neither defined nor named."""
        table = self._elf.get_section_by_name(".symtab")
        symbols = table.get_symbol_by_name(name) if table else None
        return int(symbols[0]["st_value"]) if symbols and symbols[0]["st_shndx"] != "SHN_UNDEF" else None

    def undefined(self) -> list[str]:
        """The symbols that others have to define, sorted."""
        table = self._elf.get_section_by_name(".symtab")
        symbols = table.iter_symbols() if table else ()
        return sorted({s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name})

    def text(self, symbol: str) -> str | None:
        """The string that a symbol names."""
        address = self.symbol(symbol)
        if address is None:
            return None
        start = self._at(address, 1)
        return self.content[start : self.content.index(0, start)].decode()

    def set_text(self, symbol: str, text: str) -> None:
        """Write another string there; the symbol's size has to hold it."""
        entry = self._elf.get_section_by_name(".symtab").get_symbol_by_name(symbol)[0]
        encoded = text.encode() + b"\0"
        if len(encoded) > entry["st_size"]:
            raise ValueError(f"{text!r} does not fit {symbol}")
        start = self._at(int(entry["st_value"]), len(encoded))
        self.content[start : start + len(encoded)] = encoded

    def _at(self, address: int, size: int) -> int:
        """Where in the file the bytes at an address are.  Raises PagebenchError for none."""
        for segment in self._segments:
            if 0 <= address - segment["p_vaddr"] <= segment["p_filesz"] - size:
                return int(address - segment["p_vaddr"] + segment["p_offset"])
        raise PagebenchError(f"a jump entry points to {address:#x}, where there is no code")

    def set_key(self, name: str, on: bool) -> int:
        """Turn a static key off or on, as jump_label_update() does, in the bytes in memory.

        Returns how many branches go by it.  Raises PagebenchError, with nothing written, where one of them is
        not the nop or the jump that its entry says.
        """
        key, table = self.symbol(name), self._elf.get_section_by_name(SECTION)
        if key is None or table is None:
            return 0
        start, size = int(table["sh_addr"]), int(table["sh_size"])
        if size % ENTRY.size or self._relocated(start, size):
            raise PagebenchError(f"{SECTION} is no table of jump entries relative to themselves: not patched")
        patches = []
        for address in range(start, start + size, ENTRY.size):
            code, target, of = ENTRY.unpack_from(self.content, self._at(address, ENTRY.size))
            of += address + 8
            if of & ~FLAGS == key:
                patches.append(self._patch(address + code, address + 4 + target, on ^ (of & BRANCH)))
        for at, code_bytes in patches:
            self.content[at : at + len(code_bytes)] = code_bytes
        return len(patches)

    def _patch(self, code: int, target: int, jump: bool) -> tuple[int, bytes]:
        """What to write for one entry, and where in the file."""
        self._at(target, 1)
        for branch in architecture.find().static_branches:
            taken, size = branch.jump(target - code), len(branch.nop)
            at = self._at(code, size)
            if taken and self.content[at : at + size] in (branch.nop, taken):
                return at, taken if jump else branch.nop
        at = self._at(code, 1)
        raise PagebenchError(
            f"the static branch at {code:#x} holds {self.content[at : at + SHOWN_BYTES].hex(' ')}, neither a "
            f"nop nor a jump of {target - code:+d} bytes as its entry in {SECTION} says: not patched"
        )

    def _relocated(self, start: int, size: int) -> bool:
        """Whether the dynamic linker would still change these bytes."""
        tables = (s for s in self._elf.iter_sections() if isinstance(s, RelocationSection))
        return any(start <= r["r_offset"] < start + size for t in tables for r in t.iter_relocations())

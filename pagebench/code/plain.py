"""Machine code of a result file as text: needs neither the code's machine nor the compiled core."""

from __future__ import annotations

import capstone

from pagebench.architecture import ARCHITECTURES


def disassemble(architecture: str, code: bytes) -> list[str]:
    """An instruction a line, offsets in hexadecimal; bytes that are none, or of no known machine, as such."""
    known = ARCHITECTURES.get(architecture)
    if known is None:
        return [f"{0:5x}  .byte {code.hex(' ')}"]
    machine = capstone.Cs(*(getattr(capstone, name) for name in known.capstone))
    lines, end = [], 0
    for offset, size, mnemonic, operands in machine.disasm_lite(code, 0):
        lines.append(f"{offset:5x}  {mnemonic:<8} {operands}".rstrip())
        end = offset + size
    if end < len(code):
        lines.append(f"{end:5x}  .byte {code[end:].hex(' ')}")
    return lines

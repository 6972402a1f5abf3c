"""What a turn of a loop should take, by llvm-mca: a model of the core, where one is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagebench.code.disassembly import JUMPS_IF
from pagebench.code.listing import Instruction, Listing
from pagebench.errors import PagebenchError

TURNS = 1000
# Debian calls them llvm-mca-14, and so on.
NUMBERED = re.compile(r"llvm-mca-(\d+)")


@dataclass(frozen=True, slots=True)
class Predictor:
    """An llvm-mca, its version and the core that it takes this machine's for."""

    path: str
    version: str
    cpu: str

    def cycles(self, listing: Listing) -> float | None:
        """Core cycles of a turn, of which every load hits L1 and every branch is foreseen.

        None of a loop with a way around: which way it goes is no matter of the code alone.  Raises
        PagebenchError for what llvm-mca does not take.
        """
        loop = [instruction for instruction in listing.instructions if instruction.in_loop]
        if any(JUMPS_IF.fullmatch(one.mnemonic) or one.mnemonic in ("jmp", "b") for one in loop[:-1]):
            return None
        said = _run(self.path, "-mcpu=native", f"-iterations={TURNS}", text=_assembly(loop))
        total = re.search(r"Total Cycles: +(\d+)", said)
        if not total:
            raise PagebenchError(f"{self.path} predicts nothing: install another llvm, or leave --static out")
        return int(total[1]) / TURNS


def find() -> Predictor:
    """The newest llvm-mca there is.  Raises PagebenchError where there is none."""
    numbered = {
        int(found[1]): str(path)
        for directory in os.get_exec_path()
        for path in Path(directory).glob("llvm-mca-*")
        if (found := NUMBERED.fullmatch(path.name))
    }
    path = numbered[max(numbered)] if numbered else shutil.which("llvm-mca")
    if path is None:
        raise PagebenchError("--static wants llvm-mca: install the package llvm, or leave it out")
    said = _run(path, "--version")
    version, cpu = (
        found[1] if (found := re.search(pattern, said)) else "unknown"
        for pattern in (r"LLVM version (\S+)", r"Host CPU: (\S+)")
    )
    return Predictor(path, version, cpu)


def _assembly(loop: Sequence[Instruction]) -> str:
    """The loop as its text, its last jump to its beginning."""
    *body, jump = [f"{one.mnemonic} {one.operands}" for one in loop]
    syntax = [".intel_syntax noprefix"] if re.search(r"\br\w+", " ".join(body)) else []
    back = re.sub(r"#?0x[0-9a-f]+$|#?\d+$", "1b", jump)
    return "\n".join([*syntax, "1:", *body, back, ""])


def _run(*command: str, text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PagebenchError(f"{command[0]} does not run ({error}): leave --static out") from error
    if done.returncode:
        why = (done.stderr.strip() or "no message").splitlines()[0]
        raise PagebenchError(f"{command[0]} failed ({why}): leave --static out")
    return done.stdout

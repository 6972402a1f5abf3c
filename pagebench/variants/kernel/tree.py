"""What kind of kernel tree is there: configured how, for what, with which sources."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pagebench.architecture import ARCHITECTURES
from pagebench.errors import PagebenchError
from pagebench.names import KEY_SUFFIX
from pagebench.variants import compiled

# What `make modules_prepare` generates and <linux/mm.h> wants.
GENERATED = ("autoconf.h", "bounds.h", "asm-offsets.h", "utsrelease.h", "timeconst.h")


@dataclass(frozen=True, slots=True)
class Tree:
    """A configured kernel tree.

    ``path`` holds what is generated, ``source`` the sources (the same, but for an O= directory or a header
    package), ``release`` is its UTS_RELEASE, ``architecture`` a ``uname -m`` and ``arch`` the directory under
    arch/.  ``config`` are the options that are =y, ``config_cc`` the compiler they were made for.
    """

    name: str
    path: Path
    source: Path
    release: str
    architecture: str
    arch: str
    config: frozenset[str]
    config_cc: str


def examine(name: str, path: Path) -> Tree:
    """What kind of tree is there.  Raises PagebenchError where nothing can be compiled against it."""
    if not compiled.NAME.fullmatch(name) or len(name) > compiled.NAME_LENGTH or KEY_SUFFIX in name:
        raise PagebenchError(
            f"a kernel cannot be named {name!r}: take a letter, then letters, digits and any of - _ . +, "
            f"{compiled.NAME_LENGTH} characters at most and no {KEY_SUFFIX} among them"
        )
    try:
        return _examine(name, path)
    except (OSError, RuntimeError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise PagebenchError(f"cannot read the kernel tree {path} ({name}): {what}") from error


def _examine(name: str, path: Path) -> Tree:
    here = f"the kernel tree {path} ({name})"
    if not path.is_dir():
        raise PagebenchError(f"{here} is not there: give a build directory or linux-headers-*")
    tree = path.resolve()
    source = _source(tree, here)
    if not (tree / ".config").is_file():
        raise PagebenchError(f"{here} is not configured: run `make defconfig modules_prepare` in it")
    text = (tree / ".config").read_text(encoding="utf-8", errors="replace")
    config = frozenset(re.findall(r"^CONFIG_(\w+)=y$", text, re.MULTILINE))
    configured = next((one for one in ARCHITECTURES.values() if one.kconfig in config), None)
    if configured is None or configured.name != platform.machine():
        title = re.search(r"^# Linux/(\S+)", text, re.MULTILINE)
        what = configured.name if configured else ""
        what = what or (f"{title[1]} without 64 bits" if title and title[1] == "x86" else "")
        what = what or (title[1] if title else "an unknown architecture")
        raise PagebenchError(f"{here} is configured for {what}, and this machine is {platform.machine()}")
    for header in GENERATED:
        if not (tree / "include/generated" / header).is_file():
            raise PagebenchError(
                f"{here} has no include/generated/{header}: run `make modules_prepare` in it, or install its "
                "header package again"
            )
    generated = (tree / "include/generated/utsrelease.h").read_text(encoding="utf-8", errors="replace")
    release = re.search(r'UTS_RELEASE\s+"(.*)"', generated)
    named = re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', text, re.MULTILINE)
    config_cc = (
        named[1] if named and shutil.which(named[1]) else "clang" if "CC_IS_CLANG" in config else "gcc"
    )
    return Tree(
        name,
        tree,
        source,
        release[1] if release else "",
        configured.name,
        configured.directory,
        config,
        config_cc,
    )


def _source(tree: Path, here: str) -> Path:
    """Where the sources of a build directory are; beside it where it was moved together with them."""
    candidates = [tree, tree / "source"]
    makefile = tree / "Makefile"
    text = makefile.read_text(encoding="utf-8", errors="replace") if makefile.is_file() else ""
    included = re.search(r"^include\s+(.+)/Makefile\s*$", text, re.MULTILINE)
    if included:
        candidates += [tree / included[1], tree.parent / Path(included[1]).name]
    for candidate in candidates:
        if (candidate / "include/linux/mm.h").is_file():
            return candidate.resolve()
    if included:
        raise PagebenchError(f"{here} belongs to sources in {included[1]}, which are not there: install them")
    raise PagebenchError(f"{here} is no kernel tree: it has no include/linux/mm.h and names no sources")

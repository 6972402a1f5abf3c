"""The compound_head() of a kernel tree as variants: csrc/kernel_tree.c over the tree's own <linux/mm.h>.

Nothing is written into the tree.  What was compiled is kept under a digest of the tree's headers and
configuration, the compiler and our sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pagebench import compiled, compiler, core, kernel_build, kernel_link
from pagebench.errors import PagebenchError
from pagebench.jump_table import Image

KEY_SUFFIX = "+key"
# What `uname -m` calls those that Kconfig and arch/ call this.
MACHINES = {"X86_64": ("x86_64", "x86"), "ARM64": ("aarch64", "arm64")}
# What `make modules_prepare` generates and <linux/mm.h> wants.
GENERATED = ("autoconf.h", "bounds.h", "asm-offsets.h", "utsrelease.h", "timeconst.h")

SOURCES = ("kernel_tree.c", "variant.h", "pagebench.h")


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


@dataclass(frozen=True, slots=True)
class Built:
    """A tree's compound_head(), compiled: a shared object for core.load_variants().

    ``name`` is the variant's; ``how`` is "kbuild" or "direct" and ``why`` what kept kbuild from it;
    ``encoding`` is what a tail's word holds: "pointer", "mask" or "unknown"; ``branches`` is how many static
    branches go by the key in it, and ``key`` the key's name.
    """

    name: str
    path: Path
    how: str
    why: str
    compiler: str
    cflags: str
    release: str
    encoding: str
    key: str
    branches: int


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
    machine, arch = next((MACHINES[option] for option in MACHINES if option in config), ("", ""))
    if machine != platform.machine():
        title = re.search(r"^# Linux/(\S+)", text, re.MULTILINE)
        what = machine or (f"{title[1]} without 64 bits" if title and title[1] == "x86" else "")
        what = what or (title[1] if title else "an unknown architecture")
        raise PagebenchError(f"{here} is configured for {what}, and this machine is {platform.machine()}")
    for header in GENERATED:
        if not (tree / "include/generated" / header).is_file():
            raise PagebenchError(
                f"{here} has no include/generated/{header}: run `make modules_prepare` in it, or install its "
                "header package again"
            )
    release = re.search(r'UTS_RELEASE\s+"(.*)"', (tree / "include/generated/utsrelease.h").read_text())
    told = re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', text, re.MULTILINE)
    found = told[1] if told and shutil.which(told[1]) else "clang" if "CC_IS_CLANG" in config else "gcc"
    return Tree(name, tree, source, release[1] if release else "", machine, arch, config, found)


def _source(tree: Path, here: str) -> Path:
    """Where the sources of a build directory are; beside it where it was moved together with them."""
    candidates = [tree, tree / "source"]
    makefile = tree / "Makefile"
    text = makefile.read_text(errors="replace") if makefile.is_file() else ""
    told = re.search(r"^include\s+(.+)/Makefile\s*$", text, re.MULTILINE)
    if told:
        candidates += [tree / told[1], tree.parent / Path(told[1]).name]
    for candidate in candidates:
        if (candidate / "include/linux/mm.h").is_file():
            return candidate.resolve()
    if told:
        raise PagebenchError(f"{here} belongs to sources in {told[1]}, which are not there: install them")
    raise PagebenchError(f"{here} is no kernel tree: it has no include/linux/mm.h and names no sources")


def build(name: str, path: Path, cc: str | None = None) -> list[Built]:
    """The variants of a tree: ``name``, and ``name+key`` where its lookup goes by HVO's static key.

    ``cc`` is what :func:`pagebench.compiler.find` takes; by default the compiler that the tree was configured
    for, or gcc or clang as it was.  Raises PagebenchError for a broken tree, a failing compiler, symbols that
    pagebench has no stub for, and jump entries that are not what is expected.
    """
    tree = examine(name, path)
    try:
        words = compiler.find(cc or tree.config_cc)
    except compiler.CompilerError as error:
        raise PagebenchError(str(error).replace("--cc", "--kernel-cc")) from error
    headers = _digest(tree)
    sources = [compiler.sources() / file for file in SOURCES]
    spelled = (name, str(tree.path), str(tree.source), words, compiler.version(words), core.abi())
    package = Path(__file__).parent
    ours = [*sources, compiler.sources() / "variants.c", package / "compiled.py", package / "compiler.py"]
    ours += [
        package / f"{module}.py" for module in ("kernel_build", "kernel_flags", "kernel_link", "jump_table")
    ]
    inputs = [repr(spelled).encode(), headers, *(file.read_bytes() for file in ours)]
    off = compiled.kept(f"kernel-{name}", inputs, lambda scratch: _make(tree, words, sources, scratch))
    first = _built(off)
    if not first.key:
        return [first]

    def switch(scratch: Path) -> None:
        image = Image.of(off)
        image.set_key(first.key, on=True)
        image.set_text("pb_tree_name", name + KEY_SUFFIX)
        (scratch / compiled.OBJECT).write_bytes(image.content)

    return [first, _built(compiled.kept(f"kernel-{name}{KEY_SUFFIX}", [off.read_bytes()], switch))]


def _built(path: Path) -> Built:
    """What a shared object says of itself."""
    image = Image.of(path)
    name = image.text("pb_tree_name")
    record = json.loads(image.text("pb_tree_record") or "{}")
    ((_, variant),) = core.load_variants(path).items()
    said = {"compiler": core.compiler(path), "cflags": core.variant_cflags(path), "release": variant.version}
    key = next((key for key in kernel_link.KEYS if image.symbol(key) is not None), "")
    branches = image.set_key(key, on=False) if key else 0
    return Built(
        name=name or variant.name,
        path=path,
        **said,
        **record,
        encoding=_encoding(variant),
        key=key if branches else "",
        branches=branches,
    )


def _encoding(variant: core.Variant) -> str:
    """What set_compound_head() writes to a tail of order 1."""
    folio = np.array([(0, 1, 0)], core.FOLIO_DTYPE)
    size = variant.struct_page_bytes
    with core.Reservation(4096, 4096, "4k") as memory:
        core.populate(variant, memory.base, folio)
        word = int.from_bytes(memory.bytes_at(size + core.OFFSET_UNIT, 8), "little")
        mask = (1 << 64) - 2 * size | 1
        return {memory.base + 1: "pointer", mask: "mask"}.get(word, "unknown")


def _digest(tree: Tree) -> bytes:
    """Tells the tree from an earlier state: what is generated by content, other headers by size and time."""
    digest = hashlib.sha256()
    for top in dict.fromkeys((tree.path, tree.source)):
        for part in ("include", f"arch/{tree.arch}/include"):
            for entry in sorted(_walk(top / part), key=lambda e: e.path):
                status = entry.stat()
                digest.update(
                    f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="replace")
                )
    generated = sorted((tree.path / "include/generated").rglob("*.h"))
    for file in (tree.path / ".config", *generated):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def _walk(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Every header under a directory.  Directories that cannot be read are left out."""
    ahead = [str(directory)]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        ahead.append(entry.path)
                    elif entry.name.endswith((".h", ".conf")) and entry.is_file():
                        yield entry
        except OSError:
            continue


def _make(tree: Tree, cc: list[str], sources: list[Path], scratch: Path) -> None:
    """Compile against the tree, link, and turn its key off.  Raises CompilerError, PagebenchError."""
    log = kernel_build.Log(scratch / compiled.LOG)
    for source in sources:
        shutil.copyfile(source, scratch / source.name)
    against = tree.source, tree.path, tree.arch, tree.config, cc, scratch, log
    how = kernel_build.way(*against)
    try:
        how = kernel_build.compile_tree(how, tree.source, tree.path, cc, scratch, log)
    except compiler.CompilerError as error:
        if how.how != "kbuild":
            raise
        how = kernel_build.way(*against, why=str(error))
        how = kernel_build.compile_tree(how, tree.source, tree.path, cc, scratch, log)
    kernel_link.link(tree.name, how, scratch / kernel_build.OBJECT, cc, scratch, log)
    output = scratch / compiled.OBJECT
    image = Image.of(output)
    for key in kernel_link.KEYS:
        image.set_key(key, on=False)
    output.write_bytes(image.content)

"""Variants compiled at run time: other struct pages, other compilers, a user's own.

Each becomes a shared object for :func:`pagebench.core.load_variants`, kept in a cache directory under a
digest of all that goes into it.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.variants import cache, compiler

# A user's variant is named in options and tables: no @, no colon, no comma.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*")
NAME_LENGTH = 24

REGISTRY = """\
#include <pagebench.h>
#define PB_CFLAGS {cflags}
#define PB_BUILT_COMMIT ""
#include <variants.c>
"""
ASSERTION = '_Static_assert({} == {}, "pagebench was built from other sources: build it again");\n'

# GNU ld keeps __start_* and __stop_* in the dynamic symbol table even where
# they are hidden.
EXPORTS = """\
{
	global: pb_variants; pb_compiler; pb_variant_cflags; pb_layout;
	local: *;
};
"""

USER_BEGIN = """\
#include <page.h>
#line 1 "{path}"
"""
USER_END = """

#line 1 "(after the variant's file)"
#ifdef PB_PROBE
#error "leave variant.h out of a variant's file: pagebench includes it"
#endif
#undef PB_ID
#undef PB_NAME
#undef PB_COMMIT
#undef PB_SUBJECT
#undef PB_VERSION
#define PB_ID {identifier}
#define PB_NAME {name}
#define PB_COMMIT ""
#define PB_SUBJECT {subject}
#define PB_VERSION ""
#include <variant.h>
"""

INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def built_in(struct_page_bytes: int, cc: str | None = None) -> Path:
    """A shared object of the built-in variants over struct pages of any size, by any compiler.

    ``cc`` is what :func:`compiler.find` takes.  Raises PagebenchError for a size that no struct page has, and
    where there is no compiler or it fails.
    """
    _check_struct_page(struct_page_bytes)
    try:
        words = compiler.find(cc)
    except compiler.CompilerError as error:
        sizes = core.built_in_struct_pages()
        if struct_page_bytes in sizes:
            raise
        known = ", ".join(map(str, sizes))
        raise PagebenchError(
            f"struct pages of {struct_page_bytes} bytes have to be compiled (built in: {known}) and {error}"
        ) from error
    sources = sorted((compiler.sources() / "variants").glob("*.c"))
    stem = f"struct-page-{struct_page_bytes}"
    return _shared_object(stem, words, struct_page_bytes, "the built-in variants", files=sources)


def user_variant(name: str, file: Path, struct_page_bytes: int = 64, cc: str | None = None) -> Path:
    """A shared object of one variant, ``name``, from a C file of the user's own.

    The file gives ``compound_head(page)`` and ``set_compound_head(tail, head, order)`` for the struct page of
    page.h, which is there already.  ``cc`` is what :func:`pagebench.variants.compiler.find` takes.  Raises
    PagebenchError for a name that options cannot spell, for a file that cannot be read, and where there is no
    compiler or it fails.
    """
    _check_struct_page(struct_page_bytes)
    if not NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise PagebenchError(
            f"a variant cannot be named {name!r}: take a letter, then letters, digits and any of - _ . +, "
            f"{NAME_LENGTH} characters at most"
        )
    file = file.absolute()
    try:
        text = file.read_bytes()
        headers = _headers(file, text)
    except OSError as error:
        raise PagebenchError(f"cannot read {file} for the variant {name}: {error.strerror}") from error

    shown = os.fsencode(file.name).decode(errors="replace")
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    end = USER_END.format(
        identifier="user_" + re.sub(r"\W", "_", name),
        name=literal(name),
        subject=literal(f"user's own, {shown}"),
    )
    # A path in #line may hold any byte, but no octal escapes.
    path = os.fsencode(file).replace(b"\\", rb"\\").replace(b'"', rb"\"").replace(b"\n", rb"\n")
    begin, rest = USER_BEGIN.encode().split(b"{path}")
    return _shared_object(
        f"user-{name}",
        compiler.find(cc),
        struct_page_bytes,
        file.name,
        generated=b"".join((begin, path, rest, text, end.encode())),
        options=("-iquote", str(file.parent)),
        headers=sorted(headers.items()),
    )


def _check_struct_page(struct_page_bytes: int) -> None:
    if struct_page_bytes not in names.STRUCT_PAGES:
        raise PagebenchError(
            f"no struct page has {struct_page_bytes} bytes: give a multiple of {names.STRUCT_PAGES.step} "
            f"from {names.STRUCT_PAGES[0]} to {names.STRUCT_PAGES[-1]}"
        )


def literal(text: str) -> str:
    """A C string: printable ASCII as it is, but for quotes and the backslash, the rest in octal."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _headers(file: Path, text: bytes) -> dict[Path, bytes]:
    """The user's own headers, as far as quoted includes lead to them.  Raises OSError."""
    headers: dict[Path, bytes] = {}
    ahead = [(file, text)]
    while ahead:
        source, content = ahead.pop()
        for name in INCLUDE.findall(content):
            header = source.parent / os.fsdecode(name)
            if header.is_file() and header not in headers:
                headers[header] = header.read_bytes()
                ahead.append((header, headers[header]))
    return headers


def _shared_object(
    stem: str,
    cc: Sequence[str],
    struct_page_bytes: int,
    what: str,
    files: Sequence[Path] = (),
    generated: bytes = b"",
    options: Sequence[str] = (),
    headers: Sequence[tuple[Path, bytes]] = (),
) -> Path:
    """Compile files of ours, or one ``generated``, together with a registry."""
    sources_kept = {path.name: content for path, content in headers}
    if generated:
        sources_kept[what] = generated
    csrc = compiler.sources()
    abi = core.abi()
    options = (
        "-Werror=implicit-function-declaration",
        f"-DPB_STRUCT_PAGE={struct_page_bytes}",
        *("-I", str(csrc)),
        *options,
    )

    def make(scratch: Path) -> None:
        flags = compiler.variant_cflags(cc)
        registry, variant, exports = (scratch / name for name in ("registry.c", "variant.c", "exports.map"))
        registry.write_text(
            REGISTRY.format(cflags=literal(" ".join(flags))) + "".join(ASSERTION.format(*row) for row in abi)
        )
        exports.write_text(EXPORTS)
        variant.write_bytes(generated)
        kept = scratch / cache.SOURCES
        kept.mkdir()
        for name, content in (*sorted(sources_kept.items()), ("registry.c", registry.read_bytes())):
            (kept / name).write_bytes(content)
        sources = [registry, *files, *([variant] if generated else [])]
        # -Xlinker, since -Wl would cut a path at its commas.
        linking = ["-shared", "-Xlinker", f"--version-script={exports}", "-Xlinker", "-z", "-Xlinker", "defs"]
        argv: list[str | Path] = [*cc, *flags, *options, *linking, "-o", scratch / cache.OBJECT, *sources]
        compiler.compile_logged(argv, what, scratch / cache.LOG)
        if not (scratch / cache.OBJECT).exists():
            raise compiler.CompilerError(f"{cc[0]} made nothing of {what}: is it a compiler?")

    spelled = (cc, compiler.version(cc), platform.machine(), options, headers, abi)
    inputs = [repr(spelled).encode(), generated, cache.sources_digest()]
    return cache.cached_object(stem, inputs, make)

"""Bundles: a result file with what it was measured with, in one .tar.zst, to be looked at and run elsewhere.

A bundle comes from somebody else: sizes are bounded, names are those of its manifest, digests are checked.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import zstandard

from pagebench.errors import PagebenchError
from pagebench.results.lines import Tool, check_printable

KIND, SCHEMA = "pagebench-bundle", 1
MANIFEST, RESULT, CORE, FOLIOS = "manifest.json", "result.jsonl", "objects/core.so", "folios"
# A run of hours has some 100 MiB; what unpacks to more was made to do so.
MOST_BYTES, MOST_FILES = 1 << 29, 4096
NAME = re.compile(r"(?:[A-Za-z0-9_+=-][A-Za-z0-9_.+=-]*/)*[A-Za-z0-9_+=-][A-Za-z0-9_.+=-]*")
Content = Literal["result", "object", "source", "configuration", "folios"]


class Packed(msgspec.Struct, frozen=True):
    """A file of a bundle: what it is, how large, and its digest."""

    what: Content
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds.

    ``objects``: by variant from elsewhere, the file with its code; the built-in ones are in ``CORE``.
    ``versions``: of what measured, by name.  ``left_out``: what could not be packed, and why.
    """

    kind: str = KIND
    schema: int = SCHEMA
    tool: Tool
    created: str
    architecture: str
    files: Mapping[str, Packed]
    objects: Mapping[str, str]
    versions: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def describe(what: Content, content: bytes) -> Packed:
    """A file's entry."""
    return Packed(what, len(content), hashlib.sha256(content).hexdigest())


def pack(manifest: Manifest, contents: Mapping[str, bytes]) -> bytes:
    """The bundle of these files: the manifest first, the same bytes for the same content."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        head = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        for name, content in ((MANIFEST, head), *sorted(contents.items())):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return zstandard.ZstdCompressor(level=10, write_checksum=True).compress(tar.getvalue())


def unpack(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle's manifest and files.  Raises PagebenchError for what is none, or is damaged."""
    try:
        with path.open("rb") as file:
            return _unpack(path, file)
    except OSError as error:
        raise PagebenchError(f"cannot read {path}: {error.strerror}") from error
    except (tarfile.TarError, zstandard.ZstdError, EOFError, ValueError, OverflowError) as error:
        raise PagebenchError(
            f"{path} is no bundle, or is damaged: make it again with `pagebench bundle`"
        ) from error


def _too_large(path: Path) -> PagebenchError:
    return PagebenchError(f"{path} unpacks to more than any bundle has: it is not read")


def _unpack(path: Path, file: io.BufferedReader) -> tuple[Manifest, dict[str, bytes]]:
    # In one piece: headers have sizes of their own, and tarfile believes them.
    with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file) as stream:
        tar = stream.read(MOST_BYTES + 1)
    if len(tar) > MOST_BYTES:
        raise _too_large(path)
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            # A sparse file may say that it is larger than all that there is.
            if len(contents) >= MOST_FILES or member.size > len(tar):
                raise _too_large(path)
            if not member.isreg() or not NAME.fullmatch(member.name) or member.name in contents:
                raise PagebenchError(f"{path} is no bundle: it holds {ascii(member.name)[:60]}")
            extracted = archive.extractfile(member)
            assert extracted
            contents[member.name] = extracted.read()
    manifest = _manifest(path, contents.pop(MANIFEST, None))
    for name, packed in manifest.files.items():
        if name not in contents or describe(packed.what, contents[name]) != packed:
            raise PagebenchError(f"{path} is damaged: {ascii(name)[:60]} is not what its manifest says")
    if extra := contents.keys() - manifest.files.keys():
        raise PagebenchError(f"{path} holds {ascii(min(extra))[:60]}, which its manifest does not name")
    missing = {RESULT, CORE, *manifest.objects.values()} - contents.keys()
    if missing:
        raise PagebenchError(f"{path} is damaged: {ascii(min(missing))[:60]} is missing")
    return manifest, contents


def _manifest(path: Path, content: bytes | None) -> Manifest:
    if content is None:
        raise PagebenchError(f"{path} is no bundle: it has no {MANIFEST}")
    try:
        decoded = msgspec.json.decode(content)
        if not isinstance(decoded, dict) or decoded.get("kind") != KIND:
            raise PagebenchError(f"{path} is no bundle")
        if decoded.get("schema") != SCHEMA:
            raise PagebenchError(
                f"{path} is a bundle of schema {ascii(decoded.get('schema'))[:20]}, this pagebench reads "
                f"{SCHEMA}"
            )
        check_printable(decoded)
        return msgspec.convert(decoded, Manifest)
    except (ValueError, RecursionError) as error:
        raise PagebenchError(f"{path} has a damaged manifest") from error

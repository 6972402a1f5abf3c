"""Bundles as files: the same bytes for the same content, and nothing believed that somebody else wrote."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from pagebench.errors import PagebenchError
from pagebench.results import bundle
from pagebench.results.bundle import Manifest
from pagebench.results.lines import Tool

CONTENTS = {
    bundle.RESULT: b'{"kind":"pagebench"}\n',
    bundle.CORE: b"\x7fELF",
    "objects/kernel-new-0123.so": b"\x7fELF, too",
    "source/new/page-flags.h": b"/* compound_head() */\n",
}


def manifest_of(contents: dict[str, bytes], **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "tool": Tool("pagebench", "0.1.0", "0123456789ab"),
        "created": "2026-01-02T03:04:05+00:00",
        "architecture": "x86_64",
        "files": {name: bundle.describe("source", content) for name, content in contents.items()},
        "objects": {"new": "objects/kernel-new-0123.so"},
        "versions": {"python": "3.11.2"},
    }
    return Manifest(**{**fields, **changes})


def packed(tmp_path: Path, contents: dict[str, bytes] = CONTENTS, **changes: Any) -> Path:
    path = tmp_path / "b.tar.zst"
    path.write_bytes(bundle.pack(manifest_of(CONTENTS, **changes), contents))
    return path


def raw(tmp_path: Path, fill: Callable[[tarfile.TarFile], None]) -> Path:
    """A bundle that pack() would not write."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        fill(archive)
    path = tmp_path / "b.tar.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(tar.getvalue()))
    return path


def member(archive: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    manifest, contents = bundle.unpack(packed(tmp_path))
    assert contents == CONTENTS
    assert manifest == manifest_of(CONTENTS)


def test_the_same_bytes_for_the_same_content() -> None:
    shuffled = dict(reversed(CONTENTS.items()))
    assert bundle.pack(manifest_of(CONTENTS), CONTENTS) == bundle.pack(manifest_of(CONTENTS), shuffled)


def test_it_is_a_tar_that_others_read(tmp_path: Path) -> None:
    unpacked = zstandard.ZstdDecompressor().decompress(packed(tmp_path).read_bytes())
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        names = archive.getnames()
    assert names == [bundle.MANIFEST, *sorted(CONTENTS)]


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/passwd", "a/../../b", ".hidden", "a//b", "a\nb", "", "objects/", "ä"]
)
def test_names_stay_inside(name: str, tmp_path: Path) -> None:
    path = raw(tmp_path, lambda archive: member(archive, name, b"x"))
    with pytest.raises(PagebenchError, match=r"is no bundle"):
        bundle.unpack(path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_files_alone(kind: bytes, tmp_path: Path) -> None:
    path = raw(tmp_path, lambda archive: member(archive, "a", type=kind, linkname="/etc/passwd"))
    with pytest.raises(PagebenchError, match=r"is no bundle: it holds 'a'"):
        bundle.unpack(path)


def test_what_unpacks_to_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 1 << 16)
    path = raw(tmp_path, lambda archive: member(archive, "zeros", bytes(1 << 20)))
    assert path.stat().st_size < 1 << 12
    with pytest.raises(PagebenchError, match="unpacks to more than any bundle has"):
        bundle.unpack(path)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_FILES", 3)
    with pytest.raises(PagebenchError, match="unpacks to more than any bundle has"):
        bundle.unpack(packed(tmp_path))


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        ({**CONTENTS, bundle.RESULT: b"other"}, r"result\.jsonl' is not what its manifest says"),
        (
            {name: c for name, c in CONTENTS.items() if name != bundle.CORE},
            "core.so' is not what its manifest",
        ),
        ({**CONTENTS, "more": b"x"}, "'more', which its manifest does not name"),
    ],
)
def test_files_are_those_of_the_manifest(contents: dict[str, bytes], why: str, tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match=why):
        bundle.unpack(packed(tmp_path, contents))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "is a bundle of schema 2, this pagebench reads 1"),
        ({"kind": "other"}, "is no bundle"),
        ({"objects": {"new": "objects/elsewhere.so"}}, "'objects/elsewhere.so' is missing"),
        ({"created": "\x1b[2J"}, "damaged manifest"),
    ],
)
def test_manifests_that_are_not_read(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match=why):
        bundle.unpack(packed(tmp_path, **changes))


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"kind":"pagebench-bundle","schema":1}', b"[" * 5000])
def test_manifests_that_are_none(text: bytes, tmp_path: Path) -> None:
    path = raw(tmp_path, lambda archive: member(archive, bundle.MANIFEST, text))
    with pytest.raises(PagebenchError, match=r"is no bundle|has a damaged manifest"):
        bundle.unpack(path)


@pytest.mark.parametrize("content", [b"", b"no zstd", zstandard.compress(b"no tar")])
def test_files_that_are_no_bundle(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.zst"
    path.write_bytes(content)
    with pytest.raises(PagebenchError, match="is no bundle"):
        bundle.unpack(path)
    with pytest.raises(PagebenchError, match=r"cannot read .*none"):
        bundle.unpack(tmp_path / "none")


def test_no_cut_and_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    path = packed(tmp_path)
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            try:
                _, contents = bundle.unpack(path)
            except PagebenchError:
                continue
            assert contents == CONTENTS  # a bit that says nothing, as of the window's size


def test_the_manifest_says_what_each_file_is() -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(manifest_of(CONTENTS)))
    assert decoded["files"][bundle.CORE]["bytes"] == 4
    assert len(decoded["files"][bundle.CORE]["sha256"]) == 64


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_unpacks_to_too_much(
    kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MOST_BYTES", 1 << 16)
    path = raw(tmp_path, lambda archive: member(archive, "a", bytes(1 << 20), type=kind))
    with pytest.raises(PagebenchError, match="unpacks to more than any bundle has"):
        bundle.unpack(path)


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.major": "x", "GNU.sparse.minor": "0"},
        {"GNU.sparse.map": "a,b", "GNU.sparse.size": "9"},
        {"GNU.sparse.size": "9" * 30, "GNU.sparse.map": "0,1"},
        {"size": "-5"},
    ],
)
def test_headers_that_are_nonsense(headers: dict[str, str], tmp_path: Path) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member(archive, "a", b"x", pax_headers=headers)
    path = tmp_path / "b.tar.zst"
    path.write_bytes(zstandard.compress(tar.getvalue()))
    with pytest.raises(PagebenchError):
        bundle.unpack(path)

"""A bundle of a run: its result file, the objects that were timed, their sources, what measured."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pagebench import core, tool
from pagebench.errors import PagebenchError
from pagebench.measure.timed_code import timed_code
from pagebench.plan import machine_folios
from pagebench.results import bundle, result_file
from pagebench.results.bundle import Content, Manifest
from pagebench.results.lines import Tool
from pagebench.variants import cache, compiler, registry

# What decides how a run is measured and read.
PACKAGES = ("cffi", "numpy", "msgspec", "capstone", "pyelftools")


def collect(path: Path) -> bytes:
    """The bundle of a result file.

    Raises PagebenchError where the machine code that was timed is not here any more.
    """
    run = result_file.read(path)
    if not run.samples:
        raise PagebenchError(f"{path} holds no finished group yet: go on with `run --resume {path}`")
    if timed_code(run.plan) != run.header.variants:
        raise PagebenchError(
            f"{path} was measured with other machine code (rebuilt since?): bundle it with the pagebench "
            "that measured it"
        )
    files: dict[str, tuple[Content, bytes]] = {
        bundle.RESULT: ("result", path.read_bytes()[: run.whole_bytes])
    }
    left_out: list[str] = []
    built_in = registry.object_of(run.plan.struct_page_bytes) or core.built_in_object()
    objects: dict[str, str] = {}
    for one in run.plan.objects:
        if one.built_in:  # a replay's own
            built_in = Path(one.path)
            continue
        objects[one.name] = f"objects/{Path(one.path).name}"
        files[objects[one.name]] = ("object", Path(one.path).read_bytes())
        sources = cache.sources_of(Path(one.path))
        if not sources.is_dir():
            left_out.append(f"the sources of {one.name}: they were not kept when it was compiled")
            continue
        for source in sorted(sources.iterdir()):
            what: Content = "configuration" if source.name in ("config", "autoconf.h") else "source"
            files[f"source/{one.name}/{_plain(source.name)}"] = (what, source.read_bytes())
    files[bundle.CORE] = ("object", built_in.read_bytes())
    csrc = compiler.sources()
    for source in sorted(csrc.rglob("*.[ch]")):
        files[f"source/csrc/{source.relative_to(csrc)}"] = ("source", source.read_bytes())
    if run.plan.folios is not None:
        files[bundle.FOLIOS] = ("folios", machine_folios.content(run.plan.folios))
    manifest = Manifest(
        tool=Tool(**tool.identity()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=platform.machine(),
        files={name: bundle.describe(what, content) for name, (what, content) in sorted(files.items())},
        objects=objects,
        versions=_versions(),
        left_out=tuple(left_out),
    )
    return bundle.pack(manifest, {name: content for name, (_, content) in files.items()})


def _plain(name: str) -> str:
    """A file's name as a bundle has it."""
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in "_.+-") else "_" for c in name).lstrip(".") or "_"
    )


def _versions() -> Mapping[str, str]:
    found = {"python": sys.version.split()[0], "libc": " ".join(platform.libc_ver())}
    for name in PACKAGES:
        found[name] = metadata.version(name)
    return found

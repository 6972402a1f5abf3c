"""A bundle run again: the same objects, the same cells, on this machine.

What is in a bundle is machine code that somebody else compiled, and it runs: as any program that one is sent.
"""

from __future__ import annotations

import dataclasses
import platform
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pagebench.errors import PagebenchError
from pagebench.host import machine
from pagebench.measure import session
from pagebench.measure.preparation import prepare_again
from pagebench.measure.timed_code import timed_code
from pagebench.plan.groups import MachineFolios, Plan
from pagebench.results import bundle, result_file
from pagebench.results.bundle import Manifest
from pagebench.results.result_file import Run
from pagebench.variants import cache
from pagebench.variants.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle's run, and the plan with the objects from it: in the cache, of the code that was timed."""

    manifest: Manifest
    run: Run
    plan: Plan


def open_bundle(path: Path) -> Bundled:
    """Unpack a bundle into the cache.

    Raises PagebenchError for what is no bundle, of another architecture, or holds other code than was timed.
    """
    manifest, contents = bundle.unpack(path)
    if manifest.architecture != platform.machine():
        raise PagebenchError(
            f"{path} holds code for {manifest.architecture}, this machine is {platform.machine()}: `join` "
            "sets its result beside yours"
        )
    run = _result(path, contents[bundle.RESULT])
    elsewhere = {one.name: one for one in run.plan.objects if not one.built_in}
    if set(elsewhere) != set(manifest.objects):
        raise PagebenchError(f"{path} is damaged: its objects are not those of its result")
    core_path = cache.put("bundle-core", contents[bundle.CORE])
    objects = [
        dataclasses.replace(one, path=str(cache.put("bundle", contents[manifest.objects[name]])))
        for name, one in elsewhere.items()
    ]
    built_in = [name for name in run.plan.variant_names if name not in elsewhere]
    stand_ins = [Loaded(name, name, str(core_path), "", "", built_in=True) for name in built_in]
    folios = run.plan.folios
    if folios is not None:
        folios = _folios(path, folios, contents.get(bundle.FOLIOS))
    plan = dataclasses.replace(run.plan, objects=tuple(stand_ins + objects), folios=folios)
    try:
        here = _code(plan)
    except PagebenchError as error:
        raise PagebenchError(f"{path} cannot be run here: {error}") from error
    if here != {name: code.probes for name, code in run.header.variants.items()}:
        raise PagebenchError(f"{path} holds other machine code than its result was measured with")
    return Bundled(manifest, run, plan)


def _code(plan: Plan) -> dict[str, object]:
    return {name: code.probes for name, code in timed_code(plan).items()}


def _result(path: Path, content: bytes) -> Run:
    """The result file in a bundle; errors name the bundle."""
    with tempfile.TemporaryDirectory(prefix="pagebench-") as scratch:
        unpacked = Path(scratch, bundle.RESULT)
        unpacked.write_bytes(content)
        try:
            run = result_file.read(unpacked)
        except PagebenchError as error:
            raise PagebenchError(str(error).replace(str(unpacked), f"{path}: its result file")) from error
    return dataclasses.replace(run, path=path)


def _folios(path: Path, of: MachineFolios, content: bytes | None) -> MachineFolios:
    """The capture that memmaps were made of, in the cache."""
    if content is None or bundle.describe("folios", content).sha256 != of.sha256:
        raise PagebenchError(f"{path} is damaged: the folios of its memmaps are not in it")
    place = cache.directory() / f"bundle-{of.sha256[:32]}.folios"
    try:
        place.write_bytes(content)
    except OSError as error:
        raise PagebenchError(f"cannot write {place}: {error.strerror}") from error
    return MachineFolios(str(place), of.sha256)


def replay(
    bundled: Bundled, output: Path | None, words: list[str], cpu: int | None, seed: int | None
) -> Path:
    """Measure a bundle's cells with its objects here; the new result file."""
    prepared = prepare_again(
        bundled.plan,
        machine.default_cpu() if cpu is None else cpu,
        seed=secrets.randbits(32) if seed is None else seed,
    )
    return session.begin(prepared, output, words)

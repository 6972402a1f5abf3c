"""Recording loops in memory: together, once, and what is said of those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hand_made import loop
from populated import Memmap

from pagebench import core, names
from pagebench.cache import recorded
from pagebench.code.recording import BRANCH
from pagebench.errors import PagebenchError

pytestmark = pytest.mark.usefixtures("own_cache")
CALLS = "call . + 5; ret"


def probes() -> Iterator[tuple[recorded.Loop, core.Probe]]:
    for name, variant in core.built_in_variants().items():
        yield (name, "chain"), variant.probes["chain"]


def test_loops_of_one_object_have_places_of_their_own() -> None:
    ready = recorded.record(dict(probes()))
    assert set(ready.runs) == set(ready.sites) == {one for one, _ in probes()}
    assert len(set(ready.runs.values())) == len(ready.runs)
    assert not ready.refused


def test_what_cannot_be_recorded_is_refused_alone() -> None:
    ready = recorded.record({**dict(probes()), ("mine", "chain"): loop(CALLS)})
    assert ("mine", "chain") not in ready.runs
    assert set(ready.refused) == {("mine", "chain")}
    assert ready.refused["mine", "chain"].startswith("the probe lookup cannot be recorded: `call ")
    assert len(ready.runs) == len(core.built_in_variants())


def test_nothing_to_record_is_an_error() -> None:
    with pytest.raises(PagebenchError, match="cannot be recorded: `call "):
        recorded.record({("mine", "chain"): loop(CALLS)})
    with pytest.raises(PagebenchError, match="there is no loop to record"):
        recorded.record({})


def test_a_second_time_nothing_is_assembled(
    counting_cc: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cc, notes = counting_cc
    monkeypatch.setenv("CC", f"'{cc}'")
    first = recorded.record(dict(probes()))
    assert len(notes.read_text().splitlines()) == 1
    assert recorded.record(dict(probes())).runs == first.runs
    recorded.record(dict(list(probes())[:2]))
    assert len(notes.read_text().splitlines()) == 2


def test_no_compiler_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PagebenchError, match="there is no C compiler"):
        recorded.record(dict(probes()))


def test_the_copy_is_the_variant_but_for_its_loop() -> None:
    variant = core.built_in_variants()["pointer-select"]
    one = ("pointer-select", "chain")
    ready = recorded.record({one: variant.probes["chain"]})
    copy = recorded.verified_copy(variant, one, ready.runs[one])
    assert copy.probes["lookup"] is variant.probes["lookup"]
    assert copy.probes["chain"].code == variant.probes["chain"].code
    assert copy.probes["chain"].run == ready.runs[one] != variant.probes["chain"].run
    with Memmap(variant, 2, 4) as memmap, core.Recorder(ready.loops, 1000):
        verified = core.verify(copy.probes["chain"].run, memmap.base, memmap.offsets, memmap.heads)
        assert verified.wrong == 0
        memmap.write_word(1, 0)
        verified = core.verify(copy.probes["chain"].run, memmap.base, memmap.offsets, memmap.heads)
        assert (verified.wrong, verified.first) == (1, 1)


def test_identity_reads_its_offsets_and_nothing_else() -> None:
    variant = core.built_in_variants()[names.IDENTITY]
    one = (names.IDENTITY, "lookup")
    ready = recorded.record({one: variant.probes["lookup"]})
    offsets = np.arange(10, dtype=np.uint32)
    with core.Recorder(ready.loops, 1000) as recorder:
        records, last = recorder.run(ready.runs[one], 1 << 40, offsets)
        records = records.copy()
    assert last == (1 << 40) + 9 * core.OFFSET_UNIT
    addresses = [int(record) & (1 << 48) - 1 for record in records if int(record) < BRANCH]
    # The return's is the last, on x86.
    assert addresses[:10] == [offsets.ctypes.data + 4 * i for i in range(10)]

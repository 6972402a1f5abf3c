"""A result file is read whole, in part, or refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import planted_counts
import pytest
import summaries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagebench.errors import PagebenchError
from pagebench.results import lines, result_file
from pagebench.results.lines import Header, Sampling

GROUPS = [
    summaries.group_of(["pointer-branch", "mask-select"], control=True),
    summaries.group_of(["pointer-branch"], order=0, footprint=128 << 20, probe="lookup"),
]
PLAN = summaries.plan_of(GROUPS, processes=2, rounds=3)
SAMPLINGS = len(GROUPS) * PLAN.processes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return summaries.file_of(
        tmp_path_factory.mktemp("whole") / "r.jsonl", PLAN, summaries.made_up
    ).read_bytes()


def write(path: Path, lines_: list[dict[str, Any]]) -> Path:
    header, *samplings = lines_
    writer = result_file.Writer.create(path, msgspec.convert(header, Header))
    for sampling in samplings:
        writer.append(msgspec.convert(sampling, Sampling))
    writer.close()
    return path


def lines_of(whole: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole.splitlines()]


def refused(path: Path) -> str:
    with pytest.raises(PagebenchError) as raised:
        result_file.read(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_written_is_read(tmp_path: Path, whole: bytes) -> None:
    header, *samplings = lines_of(whole)
    path = write(tmp_path / "new" / "directory" / "r.jsonl", [header, *samplings])
    assert lines_of(path.read_bytes()) == lines_of(whole)
    run = result_file.read(path)
    assert run.plan == PLAN
    assert run.header == msgspec.convert(header, Header)
    assert run.done == {(process, index) for process in (0, 1) for index in (0, 1)}
    assert run.whole_bytes == path.stat().st_size
    for samples, line in zip(run.samples, samplings, strict=True):
        cells = GROUPS[samples.sampling.group].cells
        assert samples.ns.shape == samples.ghz.shape == samples.valid.shape == (len(cells), PLAN.rounds)
        expected = [
            summaries.made_up(GROUPS[samples.sampling.group], c, samples.sampling.process, PLAN.rounds)
            for c in cells
        ]
        assert np.allclose(samples.ns, np.maximum(expected, 0), atol=1e-5)
        assert np.allclose(samples.ghz, summaries.GHZ)
        assert samples.valid.all()
        assert samples.sampling.sampling_ns == line["sampling_ns"]


def test_every_line_is_on_disk_before_the_next(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.jsonl"
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.stat().st_size))
    header, *samplings = lines_of(whole)
    writer = result_file.Writer.create(path, msgspec.convert(header, Header))
    for finished, sampling in enumerate(samplings):
        assert len(result_file.read(path).samples) == finished
        writer.append(msgspec.convert(sampling, Sampling))
    writer.close()
    assert synced == [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]


def test_cut_at_any_byte_what_was_finished_is_read(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "r.jsonl"
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    every = range(len(whole) + 1)
    near = {cut for cut in every if any(abs(cut - end) < 40 for end in (0, *ends))}
    for cut in sorted(near | set(every[::17])):
        path.write_bytes(whole[:cut])
        finished = sum(end <= cut for end in ends)
        if finished == 0:
            assert refused(path) == f"{path} was cut off in its header: run again"
        else:
            run = result_file.read(path)
            assert len(run.samples) == finished - 1
            assert run.whole_bytes == ends[finished - 1]


@pytest.mark.parametrize("cut", [1, 30, 500])
def test_resume_drops_the_line_that_was_cut_and_goes_on(tmp_path: Path, whole: bytes, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(whole[:-cut])
    run = result_file.read(path)
    assert len(run.done) == SAMPLINGS - 1
    writer = result_file.Writer.resume(run)
    writer.append(msgspec.convert(lines_of(whole)[-1], Sampling))
    writer.close()
    assert path.read_bytes() == whole


def test_resume_of_a_file_that_is_gone(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(whole)
    run = result_file.read(path)
    path.unlink()
    with pytest.raises(PagebenchError, match=r"cannot go on with .*: No such file"):
        result_file.Writer.resume(run)
    assert not path.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\x7fELF\x02\x01\x01\0\0\0\n\xff\xfe\n",
        b"{}\n",
        b"[1, 2]\n",
        b'{"kind":"other","schema":1}\n',
        b"null\n\n",
        b"\n",
        b"no newline",
        b"{" * 100_000 + b"\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_foreign_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    assert refused(path) == f"{path} is not a pagebench result file"


def test_a_newer_schema_names_the_version_that_wrote_it(tmp_path: Path, whole: bytes) -> None:
    header, *samplings = lines_of(whole)
    newer = header | {"schema": lines.SCHEMA + 1, "tool": {"version": "9.8"}, "plan": "of another kind"}
    message = refused(summaries.write(tmp_path / "r.jsonl", [newer, *samplings]))
    assert f"schema {lines.SCHEMA + 1}" in message and f"reads {lines.SCHEMA}" in message
    assert "9.8" in message


@pytest.mark.parametrize("tool", [None, "pagebench 9", {}, []])
def test_a_newer_schema_may_lay_its_header_out_anew(tmp_path: Path, whole: bytes, tool: object) -> None:
    header = lines_of(whole)[0] | {"schema": lines.SCHEMA + 1, "tool": tool}
    assert "use the version that wrote it" in refused(summaries.write(tmp_path / "r.jsonl", [header]))


def test_missing_files_and_directories(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jsonl").endswith("none.jsonl: No such file or directory")
    assert refused(tmp_path).endswith(": Is a directory")


def test_what_would_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert refused(path) == f"{path} is no regular file: name a result file"


@pytest.mark.parametrize("number", [2, 3, SAMPLINGS + 1])
@pytest.mark.parametrize("spoil", [b"", b"garbage", b"[]", b"17", b"\xff\xfe", b'{"kind":"sampling"}'])
def test_a_damaged_line_is_named_and_can_be_deleted(
    tmp_path: Path, whole: bytes, number: int, spoil: bytes
) -> None:
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join([*lines[: number - 1], spoil + b"\n", *lines[number:]]))
    message = refused(path)
    assert f"line {number} is damaged" in message and "delete it" in message
    path.write_bytes(b"".join([*lines[: number - 1], *lines[number:]]))
    assert len(result_file.read(path).samples) == SAMPLINGS - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"ticks": [[1, 2, 3]]},
        {"ticks": "none"},
        {"lookups": [0, 0, 0]},
        {"lookups": [1, 2]},
        {"group": 99},
        {"group": "first"},
        {"add_chain_ticks": [[]]},
        {"segment": [7] * 6},
        {"switches": [[0, 99]]},
        {"ticks_per_ns": None},
        {"ticks_per_ns": 0},
        {"ticks_per_ns": 1e999},
        {"process": -1},
        {"process": 2},
        {"group": -1},
        {"lookups": [], "ticks": [[]] * 6},
        {"copies": [16]},
        {"counts": [{}]},
        {"counts": [{"\x1b[2J": 1.0}] * 6},
        {"switches": [[6, 0]]},
        {"touched_bytes": {}},
        {"backing": {"2m": {"4k": 1}}},
        {"steal_ticks": "none"},
    ],
)
def test_a_block_that_does_not_fit_its_plan_is_damaged(
    tmp_path: Path, whole: bytes, changes: dict[str, object]
) -> None:
    header, *samplings = lines_of(whole)
    path = summaries.write(tmp_path / "r.jsonl", [header, samplings[0] | changes, *samplings[1:]])
    assert "line 2 is damaged" in refused(path)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("plan", {}, "groups"),
        ("machine", {"cpu": 1}, "machine"),
        ("warnings", [7], "warnings"),
        ("variants", {"pointer-branch": {}}, "variants"),
        ("command", "run \x1b[2J", "control characters"),
        ("created", "today\nand tomorrow", "control characters"),
    ],
)
def test_a_header_that_is_not_of_its_types_is_damaged(
    tmp_path: Path, whole: bytes, key: str, value: object, why: str
) -> None:
    header = lines_of(whole)[0] | {key: value}
    message = refused(summaries.write(tmp_path / "r.jsonl", [header]))
    assert "has a damaged header" in message and why in message and "\x1b" not in message


def test_lines_of_a_later_kind_are_passed_over(tmp_path: Path, whole: bytes) -> None:
    header, *samplings = lines_of(whole)
    path = summaries.write(tmp_path / "r.jsonl", [header, {"kind": "note"}, *samplings])
    assert len(result_file.read(path).samples) == SAMPLINGS


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_a_flipped_byte_is_read_or_refused(tmp_path: Path, whole: bytes, at: int, byte: int) -> None:
    path = tmp_path / "r.jsonl"
    data = bytearray(whole)
    data[at % len(whole)] = byte
    path.write_bytes(data)
    try:
        assert len(result_file.read(path).samples) <= SAMPLINGS
    except PagebenchError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"precious")
    with pytest.raises(PagebenchError, match=r"r\.jsonl exists: name another file with -o, or .*--resume"):
        result_file.Writer.create(path, msgspec.convert(summaries.header_of(PLAN), Header))
    assert path.read_bytes() == b"precious"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, why in (
        (tmp_path, "is a directory"),
        (tmp_path / "file" / "r.jsonl", "file is not a directory|Not a directory"),
        (tmp_path / "file" / "below" / "r.jsonl", "Not a directory"),
        (Path("/proc/nowhere/r.jsonl"), "No such file"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(PagebenchError, match=why) as raised:
            result_file.Writer.create(path, msgspec.convert(summaries.header_of(PLAN), Header))
        assert "-o" in str(raised.value)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_is_said(whole: bytes) -> None:
    full = Path("/dev/full")
    writer = result_file.Writer(full, full.open("wb"))
    with pytest.raises(PagebenchError, match=r"cannot write /dev/full: No space left on device; what was"):
        writer.append(msgspec.convert(lines_of(whole)[1], Sampling))


def test_rounds_that_cannot_be_trusted_are_not_valid(tmp_path: Path) -> None:
    rounds = 5
    plan = summaries.plan_of(GROUPS[:1], processes=1, rounds=rounds)
    ticks = np.full((2, 2, rounds), 18750)
    ticks[1, 0, 1] = 19000  # 1.3 % slower behind the first segment than before it
    ticks[1, 1, 2] = 18900  # 0.8 %
    line = summaries.sampling_of(
        plan, 0, 0, summaries.made_up, add_chain_ticks=ticks.tolist(), switches=[[3, 4]]
    )
    (samples,) = result_file.read(
        summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), line])
    ).samples
    dropped = {(int(cell), int(round_)) for cell, round_ in np.argwhere(~samples.valid)}
    first = {(cell, 1) for cell, segment in enumerate(line["segment"]) if segment == 0}
    assert first and dropped == first | {(3, 4)}
    after = summaries.ADD_CHAIN_CYCLES / 18900 * summaries.TICKS_PER_NS
    of_second = line["segment"].index(1)
    assert samples.ghz[of_second, 2] == pytest.approx((summaries.GHZ + after) / 2)


@pytest.mark.parametrize("role", ["aa", "control-reference"])
def test_a_group_without_what_is_compared_is_damaged(tmp_path: Path, role: str) -> None:
    group = summaries.group_of(("pointer-branch", "mask-select"), control=True)
    cells = tuple(cell for cell in group.cells if cell.role != role)
    plan = summaries.plan_of([dataclasses.replace(group, cells=cells)])
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan)])
    assert "has a damaged header (a group lacks cells" in refused(path)


# ---- What simulated caches make of it, a line of its own.

SIMULATED = planted_counts.simulated_of(PLAN, lambda group, cell: planted_counts.counts_of())


def with_line(path: Path, whole: bytes, line: bytes) -> Path:
    path.write_bytes(whole + line + b"\n")
    return path


def test_what_was_simulated_comes_back(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(whole)
    assert result_file.read(path).simulated is None
    writer = result_file.Writer.resume(result_file.read(path))
    writer.append(SIMULATED)
    writer.close()
    assert path.read_bytes().startswith(whole)
    run = result_file.read(path)
    assert run.simulated == SIMULATED
    assert run.done == {(process, index) for process in (0, 1) for index in (0, 1)}


def test_it_may_stand_anywhere_and_the_last_one_counts(tmp_path: Path, whole: bytes) -> None:
    header, *samplings = whole.splitlines(keepends=True)
    line = msgspec.json.encode(SIMULATED) + b"\n"
    again = msgspec.json.encode(msgspec.structs.replace(SIMULATED, seed=7)) + b"\n"
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"".join([header, line, *samplings, again]))
    run = result_file.read(path)
    assert run.simulated is not None and run.simulated.seed == 7
    assert len(run.done) == SAMPLINGS


def test_a_resumed_run_keeps_it(tmp_path: Path, whole: bytes) -> None:
    """Simulated before it was finished: every cell of the plan is there, whatever was measured."""
    header, *samplings = whole.splitlines(keepends=True)
    path = tmp_path / "r.jsonl"
    path.write_bytes(
        b"".join([header, samplings[0], msgspec.json.encode(SIMULATED), b"\n", samplings[1][:-20]])
    )
    writer = result_file.Writer.resume(result_file.read(path))
    for sampling in samplings[1:]:
        writer.append(msgspec.json.decode(sampling, type=Sampling))
    writer.close()
    run = result_file.read(path)
    assert run.simulated == SIMULATED
    assert len(run.done) == SAMPLINGS


def _changed(**changes: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.to_builtins(SIMULATED)
    return decoded | {"kind": "simulated"} | changes


CELL = msgspec.to_builtins(SIMULATED.cells[0])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (_changed(cells=[{**CELL, "group": 9}]), "none of the plan's"),
        (_changed(cells=[{**CELL, "cell": 99}]), "none of the plan's"),
        (_changed(cells=[{**CELL, "counts": {**CELL["counts"], "misses": [0.5]}}]), "do not fit its caches"),
        (_changed(cells=[{**CELL, "counts": {**CELL["counts"], "accesses": -1}}]), "accesses"),
        (
            _changed(cells=[{**CELL, "counts": {**CELL["counts"], "mispredictions": {}}}]),
            "do not fit its caches",
        ),
        (_changed(cells={}), "cells"),
        (_changed(seed=-1), "seed"),
        (_changed(seed=None), "seed"),
        (_changed(geometry={}), "geometry"),
        (_changed(geometry={**_changed()["geometry"], "name": "\x1b[2J"}), ""),
        (_changed(refused={"mine chain": "two\nlines"}), ""),
        ({"kind": "simulated"}, "geometry"),
    ],
)
def test_a_damaged_simulated_line_is_named(
    tmp_path: Path, whole: bytes, line: dict[str, Any], why: str
) -> None:
    path = with_line(tmp_path / "r.jsonl", whole, json.dumps(line).encode())
    said = refused(path)
    assert f"line {SAMPLINGS + 2} is damaged (" in said and "delete it to read the rest" in said
    assert why in said and said.isprintable()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_flipped_byte_of_it_is_read_or_refused(tmp_path: Path, whole: bytes, at: float, byte: int) -> None:
    line = bytearray(msgspec.json.encode(SIMULATED))
    line[int(at * len(line))] = byte
    try:
        run = result_file.read(with_line(tmp_path / "r.jsonl", whole, bytes(line)))
    except PagebenchError as error:
        assert "\n" not in str(error)
    else:
        assert len(run.done) == SAMPLINGS


def test_a_file_of_before_it_reads_as_ever(tmp_path: Path, whole: bytes) -> None:
    """Simulated was not there, and neither was a key of the header's for it."""
    assert b'"kind":"simulated"' not in whole
    path = tmp_path / "r.jsonl"
    path.write_bytes(whole)
    run = result_file.read(path)
    assert (run.simulated, len(run.samples)) == (None, SAMPLINGS)

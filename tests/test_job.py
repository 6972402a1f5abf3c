"""What a worker is told, and what it says: one JSON line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import summaries

from pagebench.measure.job import Failure, Job
from pagebench.plan.groups import Plan
from pagebench.results.lines import Sampling

PLAN = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"])], rounds=3)


def test_a_job_is_one_line_and_comes_back(tiny: Callable[..., Plan]) -> None:
    for plan in (PLAN, tiny()):
        job = Job(plan, 1, (0,), {"mask-select chain": False})
        line = msgspec.json.encode(job)
        assert b"\n" not in line
        assert msgspec.json.decode(line, type=Job) == job


@pytest.mark.parametrize(
    "change", [{"process": -1}, {"groups": [-1]}, {"groups": "all"}, {"movable": {"a b": 1}}, {"plan": None}]
)
def test_what_is_no_job_is_refused(change: dict[str, Any]) -> None:
    job = msgspec.to_builtins(Job(PLAN, 0, (0,), {})) | change
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(job, Job)


def test_a_failure_is_told_from_a_sampling() -> None:
    line = msgspec.json.encode(Failure("mask@plain finds wrong heads"))
    assert msgspec.json.decode(line) == {"kind": "error", "message": "mask@plain finds wrong heads"}
    sampling = msgspec.json.encode(summaries.sampling_of(PLAN, 0, 0, summaries.made_up))
    kinds = [type(msgspec.json.decode(said, type=Sampling | Failure)) for said in (line, sampling)]  # type: ignore[arg-type]
    assert kinds == [Failure, Sampling]

"""What llvm-mca says of loops, where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagebench import core
from pagebench.code import form, prediction
from pagebench.errors import PagebenchError
from pagebench.names import CONTROL, CONTROL_REFERENCE, IDENTITY


@pytest.fixture(scope="module")
def predictor() -> prediction.Predictor:
    try:
        return prediction.find()
    except PagebenchError:
        pytest.skip("llvm-mca is not installed: apt install llvm")


def cycles(predictor: prediction.Predictor, variant: str, probe: str) -> float | None:
    return predictor.cycles(form.analyse(core.built_in_variants()[variant].probes[probe]))


def test_one_dependent_add_is_one_cycle(predictor: prediction.Predictor) -> None:
    assert predictor.version != "unknown" and predictor.cpu != "unknown"
    control, reference = (cycles(predictor, name, "chain") for name in (CONTROL, CONTROL_REFERENCE))
    assert control and reference
    assert control - reference == pytest.approx(1.0, abs=0.01)
    harness = cycles(predictor, IDENTITY, "chain")
    assert harness and 1 <= harness < reference


@pytest.mark.parametrize("variant", ["pointer-branch", "fakehead", "fakehead-select"])
def test_a_loop_with_a_way_around_is_not_predicted(predictor: prediction.Predictor, variant: str) -> None:
    assert cycles(predictor, variant, "chain") is None


@pytest.mark.parametrize("probe", ["lookup", "flags", "get", "gup", "zap"])
def test_every_straight_loop_is_taken(predictor: prediction.Predictor, probe: str) -> None:
    for name in ("pointer-select", "mask-select", "branchless"):
        assert (cycles(predictor, name, probe) or 0) > 0


def test_without_llvm_mca_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/directory")
    with pytest.raises(PagebenchError, match="install the package llvm, or leave it out"):
        prediction.find()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo broken >&2; exit 1", r"failed \(broken\): leave --static out"),
        ("exit 1", r"failed \(no message\): leave --static out"),
        ("echo nothing", "predicts nothing: install another llvm, or leave --static out"),
    ],
)
def test_one_that_does_not_work_is_one_line(tmp_path: Path, body: str, why: str) -> None:
    script = tmp_path / "llvm-mca"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    with pytest.raises(PagebenchError, match=why):
        cycles(prediction.Predictor(str(script), "1", "a core"), IDENTITY, "chain")

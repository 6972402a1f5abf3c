"""README's way to track regressions by pytest-benchmark: a baseline here, and one of another CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = str(ROOT / "benchmarks/test_compound_head.py")
# One benchmark, made quick: what it reads does not matter here.
ONE = ("-k", "mask-select and order2 and chain", "-q", "-p", "no:cacheprovider")


def bench(storage: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", BENCHMARK, *ONE, "--benchmark-storage=.", *words],
        cwd=storage,  # a storage elsewhere makes pytest-benchmark's own warning a traceback
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("benchmarks")
    done = bench(storage, "--benchmark-autosave")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = storage.rglob("*.json")
    return path


def moved(saved: Path, tmp_path: Path, **machine: object) -> Path:
    """The baseline as another machine would have left it."""
    decoded = json.loads(saved.read_text())
    decoded["machine_info"].update(machine)
    there = tmp_path / saved.parent.name / saved.name
    there.parent.mkdir()
    there.write_text(json.dumps(decoded))
    return tmp_path


@pytest.mark.slow
def test_a_baseline_says_whose_it_is_and_nothing_that_changes(saved: Path) -> None:
    info = json.loads(saved.read_text())["machine_info"]
    assert {"cpu", "architecture", "kernel", "compiler", "cflags"} <= set(info)
    assert "family" in info["cpu"]
    again = bench(saved.parent.parent, "--benchmark-compare")
    assert again.returncode == 0
    assert "machine_info is different" not in again.stdout + again.stderr


@pytest.mark.slow
def test_a_baseline_of_another_cpu_is_refused_and_forced(saved: Path, tmp_path: Path) -> None:
    storage = moved(saved, tmp_path, cpu="AMD EPYC, family 25, model 1")
    done = bench(storage, "--benchmark-compare", "--benchmark-compare-fail=median:25%")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = done.stdout + done.stderr
    assert "the baseline is of another machine: cpu 'AMD EPYC, family 25, model 1', here" in said
    assert "Traceback" not in said
    forced = bench(storage, "--benchmark-compare", "--other-machine")
    assert forced.returncode == 0
    assert "machine_info is different" in forced.stdout + forced.stderr


@pytest.mark.slow
def test_another_kernel_is_warned_of_and_compared(saved: Path, tmp_path: Path) -> None:
    done = bench(moved(saved, tmp_path, kernel="5.10.0"), "--benchmark-compare")
    assert done.returncode == 0
    assert "machine_info is different" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_regression_fails(saved: Path, tmp_path: Path) -> None:
    decoded = json.loads(saved.read_text())
    for benchmark in decoded["benchmarks"]:
        benchmark["stats"]["median"] /= 2
    there = tmp_path / saved.parent.name / saved.name
    there.parent.mkdir()
    there.write_text(json.dumps(decoded))
    done = bench(tmp_path, "--benchmark-compare", "--benchmark-compare-fail=median:25%")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "Performance has regressed" in done.stdout + done.stderr

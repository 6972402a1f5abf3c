"""Where benchmarks run: on the CPU that workers take, the clock calibrated there; whose baselines count."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pagebench import core
from pagebench.host import machine
from pagebench.results import provenance

FORCE = "--other-machine"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Times of two CPU models are not compared, unless somebody insists."""
    parser.addoption(
        FORCE, action="store_true", help="compare with a baseline of another CPU model all the same"
    )


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    """What a baseline is only good for; nothing that differs from run to run, as a clock or a load does."""
    here = machine.describe(machine.default_cpu())
    return {
        "cpu": provenance.cpu(here),
        "architecture": here.architecture,
        "stepping": here.stepping,
        "hypervisor": here.hypervisor or "none seen",
        "kernel": here.kernel_release,
        "thp": here.thp_enabled,
        "governor": here.governor,
        "turbo": here.turbo,
        "mitigations": dict(here.mitigations),
        "caches": {level: getattr(here.caches, level) for level in ("l1d_bytes", "l2_bytes", "l3_bytes")},
        "compiler": core.compiler(),
        "cflags": core.variant_cflags(),
    }


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: Mapping[str, Any], compared_benchmark: Mapping[str, Any]
) -> None:
    """Refuse a baseline of another CPU model, where pytest-benchmark itself would warn and go on."""
    saved = compared_benchmark["machine_info"]
    for what in ("architecture", "cpu"):
        if saved.get(what) != machine_info[what] and not config.getoption(FORCE):
            of = saved.get(what)
            raise pytest.UsageError(
                f"the baseline is of another machine: {what} {of!r}, here {machine_info[what]!r}; save one "
                f"here with --benchmark-autosave, or compare all the same with {FORCE}"
            )


@pytest.fixture(scope="module")
def pinned() -> Iterator[int]:
    """The CPU that this process keeps to meanwhile."""
    allowed = os.sched_getaffinity(0)
    cpu = machine.default_cpu()
    core.pin(cpu)
    yield cpu
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="module")
def clock(pinned: int) -> core.Clock:
    """Calibrated by spinning, which brings the core up to speed."""
    return core.Clock()


@pytest.fixture(scope="session")
def seed() -> int:
    """Of every draw; new in each run."""
    return secrets.randbits(32)

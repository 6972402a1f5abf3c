"""What of the tool corresponds to a kernel."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path

import pytest
from planted_kernels import MIB, SYSCTL, describe, every_kernel, machine_of, mask, now, plain, pool

from pagebench import cli
from pagebench.plan import building, options
from pagebench.plan.counterparts import counterparts, suggest
from pagebench.plan.groups import Contender, Levels
from pagebench.plan.questions import SERIES, of_family
from pagebench.variants import registry


@pytest.fixture(autouse=True)
def base_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)


def test_a_pointer_kernel_with_hvo_in_use(tmp_path: Path) -> None:
    files = plain() | {SYSCTL: "1\n"} | pool(2 * MIB, 64, {"node0": 64})
    found = describe(tmp_path, files)
    assert (found.hvo.on.value, found.hvo.in_use.value) == (True, True)
    assert now(found) == {"fakehead@plain": True, "fakehead@hvo": True, "pointer-branch@plain": False}
    # The reference of the run to try is what most of this kernel's pages have.
    run = suggest(found, machine_of(tmp_path)).commands[0]
    assert " --contenders fakehead,fakehead@hvo,pointer-branch,branchless," in run


def test_other_architectures_promise_less_than_x86(tmp_path: Path) -> None:
    arm = dataclasses.replace(machine_of(tmp_path), architecture="aarch64")
    assert suggest(describe(tmp_path, plain()), arm).memory_models == ("vmemmap-pmd",)
    assert suggest(describe(tmp_path, mask()), arm).memory_models == ("vmemmap",)


@pytest.mark.parametrize("name", every_kernel())
def test_what_it_proposes_the_tool_takes(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe(tmp_path, every_kernel()[name])
    monkeypatch.undo()  # of the base page
    for counterpart in counterparts(found):
        assert Contender.parse(counterpart.contender).variant in registry.known()
    proposed = suggest(found, machine_of(tmp_path))
    commands = [cli.parser().parse_args(shlex.split(command)) for command in proposed.commands]
    assert commands
    for args in commands:
        assert args.command in ("run", "align")
        if args.command == "run" and args.struct_page_bytes == 64:  # another size has to be compiled
            asked = options.Options(contenders=args.contenders, orders=args.orders)
            assert building.build(asked, Levels(32 << 10, MIB, 32 * MIB), 32 * MIB, None).groups


def test_a_pointer_kernel_is_what_the_series_has_before_and_a_mask_kernel_what_it_has_after(
    tmp_path: Path,
) -> None:
    series = of_family(SERIES)
    pointer, masked = describe(tmp_path / "a", plain()), describe(tmp_path / "b", mask())
    assert [(row.contender, row.pages) for row in counterparts(pointer)] == [
        (str(Contender.parse(question.before)), question.pages) for question in series
    ]
    assert [(row.contender, row.pages) for row in counterparts(masked)] == [
        ("branchless@plain", "pages that HVO left alone"),
        ("branchless@hvo-shared", "HugeTLB pages that HVO optimized"),
    ]
    # What is proposed answers every question of the series, from either side.
    for kernel in (pointer, masked):
        (run, _) = suggest(kernel, machine_of(tmp_path)).commands
        proposed = cli.parser().parse_args(shlex.split(run)).contenders
        assert {text for question in series for text in (question.before, question.after)} == set(proposed)

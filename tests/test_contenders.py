"""Contenders from outside, and those that they suggest beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagebench.measure.contenders import PLAIN, Outside
from pagebench.plan.presets import DEFAULT_CONTENDERS
from pagebench.variants import registry
from pagebench.variants.loaded import Loaded

INNER = ("branchless", "fakehead", "mask", "pointer")
FILE, TREE = Path("mine.c"), Path("linux")


def loaded(name: str, inner: str = "", tree: str = "") -> Loaded:
    return Loaded(name, inner or name, "", "a test", "", tree)


@pytest.fixture(autouse=True)
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry, without what takes a compiler."""

    def of_tree(name: str, tree: Path, cc: str | None) -> tuple[list[Loaded], list[str]]:
        assert (tree, cc) == (TREE, "clang")
        return [loaded(name, tree=name)], [f"{name}@plain", f"{name}@hvo"]

    monkeypatch.setattr(registry, "users_own", lambda name, file, size: loaded(f"{name}{size}"))
    monkeypatch.setattr(
        registry, "recompiled", lambda cc, size: [loaded(f"{name}+{cc}", name) for name in INNER]
    )
    monkeypatch.setattr(registry, "of_tree", of_tree)
    yield


def test_nothing_from_outside_suggests_nothing() -> None:
    assert Outside().load(64) == ((), [])


def test_a_users_own_is_compared_with_the_usual_ones() -> None:
    objects, contenders = Outside(own=[("mine", FILE), ("other", FILE)]).load(80)
    assert objects == (loaded("mine80"), loaded("other80"))
    assert contenders == [*DEFAULT_CONTENDERS, "mine", "other"]


def test_a_compilers_are_compared_with_those_of_the_core() -> None:
    objects, contenders = Outside(compilers=["clang", "gcc"]).load(64)
    assert [one.name for one in objects] == [f"{name}+{cc}" for cc in ("clang", "gcc") for name in INNER]
    # Each of the core's once.
    assert contenders == [
        *(name for inner in PLAIN for name in (inner, f"{inner}+clang")),
        *(f"{inner}+gcc" for inner in PLAIN),
    ]


def test_trees_come_first_and_need_no_others() -> None:
    outside = Outside(own=[("mine", FILE)], kernels=[("old", TREE), ("new", TREE)], kernel_cc="clang")
    objects, contenders = outside.load(64)
    assert objects == (loaded("old", tree="old"), loaded("new", tree="new"), loaded("mine64"))
    assert contenders == ["old@plain", "old@hvo", "new@plain", "new@hvo", "mine"]

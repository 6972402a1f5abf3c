"""Questions: what is compared with what, and for which pages."""

from __future__ import annotations

import pytest

from pagebench.plan.groups import Contender
from pagebench.plan.questions import QUESTIONS, SERIES, STATIC_KEY, contenders_of, of_family, of_trees
from pagebench.variants import registry


def test_every_question_compares_contenders_that_there_are() -> None:
    for question in QUESTIONS:
        for text in (question.before, question.after):
            registry.find(Contender.parse(text).variant)
        assert question.before != question.after
    assert [*of_family(SERIES), *of_family(STATIC_KEY)] == list(QUESTIONS)
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)


def test_pages_are_told_apart_by_their_condition() -> None:
    assert [question.pages for question in of_family(SERIES)] == [
        "pages that HVO left alone, key off",
        "pages that HVO left alone, key on",
        "HugeTLB pages that HVO optimized",
    ]


def test_contenders_are_named_once_and_in_order() -> None:
    assert contenders_of(of_family(SERIES)) == [
        *("pointer-branch", "branchless", "fakehead", "fakehead@hvo", "branchless@hvo-shared"),
    ]


def test_trees_are_asked_what_the_series_is_asked() -> None:
    asked = of_trees(["old", "middle", "new"])
    assert [(question.before, question.after) for question in asked] == [
        ("old", "new"),
        ("old+key", "new"),
        ("old+key@hvo", "new@hvo-shared"),
    ]
    assert all(question.tree for question in asked)
    assert [question.pages for question in asked] == [question.pages for question in of_family(SERIES)]


@pytest.mark.parametrize("trees", [[], ["one"], ["one", "one"]])
def test_fewer_than_two_trees_are_asked_nothing(trees: list[str]) -> None:
    assert of_trees(trees) == []

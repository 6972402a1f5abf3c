"""Questions: what a change of compound_head() does to which pages, as two contenders of one group.

Presets, the series' table, kernel trees and `info` all read this table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pagebench.names import KEY_SUFFIX

SERIES, STATIC_KEY = "series", "static key"
LEFT_ALONE = "pages that HVO left alone"


@dataclass(frozen=True, slots=True)
class Question:
    """``after`` against ``before``, both contenders, for the pages that it concerns.

    ``which`` pages those are, and the ``condition`` under which, if there is one to be told apart by.
    ``family``: questions that are asked, and adjusted for being many, together.  ``key_on``: whether HVO's
    static key is on in a kernel whose lookup ``before`` is; ``tree``: of kernel trees, not textbook variants.
    """

    name: str
    family: str
    which: str
    before: str
    after: str
    condition: str = ""
    key_on: bool = False
    tree: bool = False

    @property
    def pages(self) -> str:
        """Which pages it concerns, and under which condition."""
        return ", ".join(filter(None, (self.which, self.condition)))


QUESTIONS = (
    Question("key off", SERIES, LEFT_ALONE, "pointer-branch", "branchless", "key off"),
    Question("key on", SERIES, LEFT_ALONE, "fakehead", "branchless", "key on", key_on=True),
    Question(
        "hugetlb",
        SERIES,
        "HugeTLB pages that HVO optimized",
        "fakehead@hvo",
        "branchless@hvo-shared",
        key_on=True,
    ),
    # What the key costs, for a tail test of either form.
    Question("key, branch", STATIC_KEY, "a branch tests for tails", "pointer-branch", "fakehead"),
    Question("key, select", STATIC_KEY, "a select tests for tails", "pointer-select", "fakehead-select"),
)


def of_family(family: str) -> list[Question]:
    """The questions of a family, in the table's order."""
    return [question for question in QUESTIONS if question.family == family]


def contenders_of(questions: Iterable[Question]) -> list[str]:
    """Every contender that the questions name, each once."""
    return list(dict.fromkeys(text for question in questions for text in (question.before, question.after)))


def of_trees(trees: Sequence[str]) -> list[Question]:
    """The series' questions asked of the first kernel tree and the last; none of fewer than two."""
    distinct = list(dict.fromkeys(trees))
    if len(distinct) < 2:
        return []
    old, new = distinct[0], distinct[-1]
    stands_for = {"pointer-branch": old, "fakehead": old + KEY_SUFFIX, "branchless": new}

    def of_tree(contender: str) -> str:
        variant, at, layout = contender.partition("@")
        return stands_for[variant] + at + layout

    return [
        dataclasses.replace(
            question, before=of_tree(question.before), after=of_tree(question.after), tree=True
        )
        for question in of_family(SERIES)
    ]

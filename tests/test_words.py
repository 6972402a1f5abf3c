"""Verdicts in sentences: counted, never judged here."""

from __future__ import annotations

import re

import pytest
import reports
import summaries

from pagebench.report import words


def test_every_cell_is_counted_once() -> None:
    summary = summaries.typed(reports.summary_of("untrusted"))
    for text, row in zip(words.verdicts(summary), summary.overall, strict=True):
        counts = [
            int(count) for count in re.findall(r"(?:faster|slower|equivalent|inconclusive) in (\d+)", text)
        ]
        assert sum(counts) == row.cells
        assert f"{row.cells} cells" in text


def test_trust_comes_first() -> None:
    assert words.conclusion(summaries.typed(reports.summary_of("untrusted")))[0].startswith(
        "This run is not to be trusted"
    )
    assert words.conclusion(summaries.typed(reports.summary_of("partial")))[0].startswith("Not finished")


@pytest.mark.slow
def test_the_series_questions_are_answered() -> None:
    summary = summaries.typed(reports.summary_of("default"))
    found = words.answers(summary)
    assert [text.partition(":")[0] for text in found] == [
        "Pages that HVO left alone, key off",
        "Pages that HVO left alone, key on",
        "HugeTLB pages that HVO optimized",
    ]
    assert words.conclusion(summary)[:3] == found


def test_nothing_reads_the_same() -> None:
    for name in ("untrusted", "counted", "partial"):
        text = " ".join(words.conclusion(summaries.typed(reports.summary_of(name))))
        assert "no difference" not in text and "the same" not in text

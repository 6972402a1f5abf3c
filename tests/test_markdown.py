"""A run as Markdown."""

from __future__ import annotations

import pytest
import reports
import summaries

from pagebench.report import markdown


@pytest.mark.parametrize("name", reports.NAMES)
def test_every_table_is_one(name: str) -> None:
    """Every row has as many columns as its head."""
    text = markdown.render(summaries.typed(reports.summary_of(name)))
    columns = None
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        count = line.replace("\\|", "").count("|")
        assert columns in (None, count), line
        columns = count
    assert text.count("<details>") == text.count("</details>") == 2


def test_every_cell_is_there() -> None:
    summary = summaries.typed(reports.summary_of("counted"))
    text = markdown.render(summary)
    for row in summary.cells:
        if row.verdict == "reference":
            continue
        assert f"{row.difference.ns.estimate:+.3f}" in text


def test_what_a_file_says_becomes_no_markup() -> None:
    decoded = reports.summary_of("counted")
    decoded["warnings"] = ["<img src=x onerror=alert(1)> | [x](http://example.org) `y` *z*"]
    text = markdown.render(summaries.typed(decoded))
    assert r"&lt;img src=x onerror=alert(1)&gt; \| \[x\](http&#58;//example.org) \`y\` \*z\*" in text


def test_what_is_folded_has_a_title_that_is_text() -> None:
    decoded = reports.summary_of("counted")
    decoded["plan"]["reference"] = "<img src=x onerror=alert(1)>"
    text = markdown.render(summaries.typed(decoded))
    assert "<img" not in text


def test_the_command_is_a_block_that_a_file_cannot_leave() -> None:
    decoded = reports.summary_of("counted")
    decoded["command"] = "python ``` <script>"
    text = markdown.render(summaries.typed(decoded))
    fence = text.splitlines()[-1]
    assert len(fence) > 3 and set(fence) == {"`"}
    assert text.splitlines()[-2] == decoded["command"]

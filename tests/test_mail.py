"""A run for a cover letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reports
import summaries
from test_text import check_golden

from pagebench.report import mail
from pagebench.results.summary import Summary


def summary(name: str) -> Summary:
    return summaries.typed(reports.summary_of(name))


@pytest.mark.parametrize("name", reports.NAMES)
def test_it_fits_a_cover_letter(name: str) -> None:
    lines = mail.render(summary(name)).splitlines()
    assert len(lines) <= mail.LINES
    assert [
        line for line in lines if len(line) > mail.WIDTH or not line.isascii() or line != line.rstrip()
    ] == []


@pytest.mark.slow
def test_the_mail_is_the_golden_one() -> None:
    check_golden("mail", mail.render(summary("default")), "tests/test_mail.py")


@pytest.mark.slow
def test_it_says_who_measured_what_and_how_to_do_it_again() -> None:
    found = summary("default")
    text = mail.render(found)
    for said in (
        found.machine.cpu_model,
        found.machine.kernel_release,
        found.compiler.name,
        "|A/A|",
        "drawn addresses",
        "Resolved down to",
        found.command,
    ):
        assert said in text
    # The series' questions: base pages and hugepages, latency and throughput, small footprints and large.
    rows = [line.split()[:4] for line in text.splitlines() if re.match(r"(chain|lookup|get) ", line)]
    for probe in ("chain", "lookup"):
        for order in ("0", "9"):
            assert {size for p, _, o, size in rows if (p, o) == (probe, order)} >= {"16K", "96M"}
    assert "key off" in text and "hugetlb" in text


@pytest.mark.slow
def test_every_number_is_in_the_report() -> None:
    full = reports.text_of("default")
    for line in mail.render(summary("default")).splitlines():
        if re.match(r"(chain|lookup|get) ", line):
            assert all(number in full for number in line.split()[4:])


def test_a_run_without_the_series_contenders_has_those_that_it_has() -> None:
    text = mail.render(summary("counted"))
    assert "against pointer-branch" in text


def test_what_is_not_to_be_trusted_says_so() -> None:
    assert "NOT TO BE TRUSTED" in mail.render(summary("untrusted"))
    partial = mail.render(summary("partial"))
    assert "UNFINISHED: 3 of" in partial and "control is not finished" in partial


@pytest.mark.parametrize("length", [10, 300, 5000])
def test_a_long_command_is_wrapped_or_left_to_the_file(length: int) -> None:
    decoded = reports.summary_of("counted")
    decoded["command"] = "python -m pagebench run --orders " + ",".join(["9"] * length)
    text = mail.render(summaries.typed(decoded))
    lines = text.splitlines()
    assert len(lines) <= mail.LINES and max(map(len, lines)) <= mail.WIDTH
    whole = re.sub(r"\\\n *", "", text)
    assert (decoded["command"] in whole) or lines[-1] == "The command is in the result file."


def test_one_contender_alone_compares_nothing(tmp_path: Path) -> None:
    plan = summaries.plan_of([summaries.group_of(["mask-select"], control=True)], rounds=3)
    decoded = summaries.summary_of(tmp_path / "r.jsonl", plan, summaries.made_up)
    assert "Nothing is compared" in mail.render(summaries.typed(decoded))


def test_contenders_that_find_no_room_are_counted(tmp_path: Path) -> None:
    names = ["mask-select", "branchless", "pointer-select", "linux-6.12+key", "linux-7.2@hvo-shared:memfd"]
    plan = summaries.plan_of([summaries.group_of(names, control=True)], rounds=3)
    decoded = summaries.summary_of(tmp_path / "r.jsonl", plan, summaries.made_up)
    assert "1 contender more" in mail.render(summaries.typed(decoded))


@pytest.mark.parametrize("word", ["'a b'", "/a/very/long/path" * 9])
def test_a_command_that_cannot_be_wrapped_is_left_to_the_file(word: str) -> None:
    decoded = reports.summary_of("counted")
    decoded["command"] = f"python -m pagebench run --variant mine={word} --orders {'9,' * 40}9"
    lines = mail.render(summaries.typed(decoded)).splitlines()
    assert max(map(len, lines)) <= mail.WIDTH
    assert lines[-1] == "The command is in the result file."

"""The lines of a result file: what fits its type and its plan, and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import summaries

from pagebench.results.lines import Header, Sampling, check_fits, check_printable

PLAN = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"])], processes=2, rounds=3)
CELLS = len(PLAN.groups[0].cells)


def sampling_of(changes: dict[str, Any]) -> Sampling:
    return msgspec.convert(summaries.sampling_of(PLAN, 1, 0, summaries.made_up) | changes, Sampling)


def test_a_sampling_of_the_plan_fits() -> None:
    check_fits(sampling_of({}), PLAN)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"group": 1}, "it is of a group or process that the plan does not have"),
        ({"process": 2}, "it is of a group or process that the plan does not have"),
        ({"lookups": [100] * 2}, "its rounds, add chains do not fit"),
        ({"lookups": [], "ticks": [[]] * CELLS, "add_chain_ticks": [[[], []]] * 2}, "its rounds do not fit"),
        ({"ticks": [[1, 2, 3]] * (CELLS + 1)}, "its cells do not fit"),
        ({"copies": [16]}, "its cells do not fit"),
        ({"segment": [0] * CELLS}, "its add chains do not fit"),
        ({"add_chain_ticks": [[[1, 2, 3]] * 2]}, "its add chains do not fit"),
        ({"switches": [[CELLS, 0]]}, "its context switches do not fit"),
        ({"switches": [[0, 3]]}, "its context switches do not fit"),
        ({"touched_bytes": {"hvo": 4096}}, "its layouts do not fit"),
        ({"counts": [{"cyc\x1bles": 1.0}, *[{}] * (CELLS - 1)]}, "its names do not fit"),
        ({"backing": {}}, "its backings do not fit"),
        ({"backing": {"2m": {"4k": 4096}}}, "its backings do not fit"),
    ],
)
def test_what_does_not_fit_the_plan_is_named(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        check_fits(sampling_of(changes), PLAN)


@pytest.mark.parametrize(
    "changes",
    [
        {"process": -1},
        {"ticks": [[-1, 2, 3]] * CELLS},
        {"ticks": [[1.5, 2, 3]] * CELLS},
        {"lookups": [0, 1, 2]},
        {"steal_ticks": (1 << 53) + 1},
        {"ticks_per_ns": 0.0},
        {"copies": [0] * CELLS},
        {"kind": "note"},
    ],
)
def test_what_no_clock_and_no_counter_says_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        sampling_of(changes)


def test_a_header_comes_back() -> None:
    header = msgspec.convert(summaries.header_of(PLAN), Header)
    assert msgspec.json.decode(msgspec.json.encode(header), type=Header) == header
    assert header.plan == PLAN


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x7f", "\x9b31m", "\0"])
def test_text_that_moves_a_cursor_is_refused_wherever_it_is(text: str) -> None:
    for decoded in ([{"a": ["b", text]}], {text: 1}, {"a": {"b": {"c": text}}}, text):
        with pytest.raises(ValueError, match="control characters in '"):
            check_printable(decoded)


def test_other_text_is_printable() -> None:
    check_printable(summaries.header_of(PLAN))
    check_printable(["Ünicode \N{SNOWMAN}", 1, None, {"a": 1.5}])

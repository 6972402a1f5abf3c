"""The lines of a result file: what fits its type and its plan, and what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import summaries

from pagebench.errors import PagebenchError
from pagebench.results import result_file
from pagebench.results.lines import Header, Sampling, check_fits, check_printable

PLAN = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"])], processes=2, rounds=3)
HVO = {"variant": "encoding-null", "layout": "hvo", "backing": "memfd"}
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


def damaged(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A header after a change."""
    header = copy.deepcopy(summaries.header_of(PLAN))
    change(header)
    return header


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: h["variants"].pop("mask-select"), "the code of mask-select for chain is missing"),
        (lambda h: h["variants"]["mask-select"]["probes"].pop("chain"), "the code of mask-select for chain"),
        (lambda h: h["variants"]["mask-select"]["probes"]["chain"].update(code="zz"), "non-hexadecimal"),
        (lambda h: h["plan"]["groups"][0].update(probe="nonesuch"), "there is no probe 'nonesuch'"),
        (
            lambda h: h["plan"]["groups"][0].update(
                cells=[c for c in h["plan"]["groups"][0]["cells"] if c["role"] != "identity"]
            ),
            "a group lacks cells",
        ),
        (
            lambda h: h["plan"]["groups"][0].update(
                cells=[*h["plan"]["groups"][0]["cells"], {"contender": HVO, "role": "null", "tail_words": 2}]
            ),
            "null has nothing to be compared",
        ),
    ],
)
def test_headers_that_contradict_themselves(
    change: Callable[[dict[str, Any]], object], why: str, tmp_path: Path
) -> None:
    path = summaries.write(tmp_path / "r.jsonl", [damaged(change)])
    with pytest.raises(PagebenchError, match=f"has a damaged header .*{why}"):
        result_file.read(path)


@pytest.mark.parametrize(
    "changes",
    [{"ticks_per_ns": 1e308}, {"ticks_per_ns": 1e-323}, {"ticks_per_ns": -1.0}, {"set_up_ns": 10**400}],
)
def test_samplings_of_no_clock(changes: dict[str, Any], tmp_path: Path) -> None:
    line = summaries.sampling_of(PLAN, 0, 0, summaries.made_up, **changes)
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(PLAN), line])
    with pytest.raises(PagebenchError, match="line 2 is damaged"):
        result_file.read(path)

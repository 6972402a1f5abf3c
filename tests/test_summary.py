"""The JSON of a summary: its schema, and that it says what the text report says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import reports
from planted_differences import INTERVAL

from pagebench.report import text
from pagebench.report.tables import significant
from pagebench.results import summary

SCHEMA = Path(__file__).parents[1] / "docs" / "summary.schema.json"


def test_the_schema_in_docs_is_that_of_the_code() -> None:
    generated = json.dumps(summary.json_schema(), indent=1) + "\n"
    if os.environ.get("PAGEBENCH_UPDATE_GOLDEN"):
        SCHEMA.write_text(generated)
    assert SCHEMA.read_text() == generated, "PAGEBENCH_UPDATE_GOLDEN=1 pytest tests/test_summary.py writes it"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", reports.NAMES)
def test_summaries_are_valid(name: str, validator: jsonschema.Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(reports.summary_of(name))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cells", 0, "verdict"), "the same"),
        (("cells", 0, "ns", "median"), "fast"),
        (("cells", 0, "mark"), "!"),
        (("control", "trusted"), "yes"),
        (("warnings",), None),
    ],
)
def test_what_is_no_summary_is_not_valid(
    path: tuple[Any, ...], value: object, validator: jsonschema.Draft202012Validator
) -> None:
    decoded = reports.summary_of("counted")
    place: Any = decoded
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert list(validator.iter_errors(decoded))


def squeezed(words: str) -> str:
    """Without the white space that wrapping moves."""
    return "".join(words.split())


@pytest.mark.parametrize("name", reports.NAMES)
def test_text_and_json_say_the_same(name: str) -> None:
    decoded = reports.summary_of(name)
    report = reports.text_of(name)
    said = squeezed(report)
    for warning in (*decoded["warnings"], decoded["limits"]):
        assert squeezed(warning) in said
    assert len(re.findall(r"^warning ", report, re.MULTILINE)) == len(decoded["warnings"])
    for maximum in decoded["noise_maxima"]:
        assert f"{text.LEVELS[maximum['level']]}{significant(maximum['ns'])}" in said
    for row in decoded["overall"]:
        rest = said.partition(squeezed(f"{text.short(row['contender'])} against"))[2]
        line = rest[: rest.index("geometricmeanofratios") + len("geometricmeanofratios0.000")]
        assert f"{row['cells']}cells:" in line
        assert line.endswith(f"{row['geometric_mean_ratio']:.3f}")
        for verdict, span in row["verdicts"].items():
            assert f"{verdict}in{span['count']}" in line
    for floor in decoded["resolved"]:
        line = said.partition(f"{floor['probe']}:everydifferencewasresolveddownto,inns:")[2].partition(":")[0]
        assert f"{text.LEVELS[floor['level']]}{significant(floor['ns'])}" in line
    unresolved, small = decoded["inconclusive"], decoded["significant"]
    assert (f"{unresolved['count']}comparisonsstayinconclusive" in said) == (unresolved["count"] > 0)
    if small["comparisons"]:
        assert f"{small['below']}of{small['comparisons']}comparisonshavep<{small['level']:g}" in said
    shown = sorted({row["footprint_bytes"] for row in decoded["operations"]})[:5]
    for row in decoded["operations"]:
        if row["us"] is not None and row["footprint_bytes"] in shown:
            assert (f"{row['us']:.2f}" if row["verdict"] == "reference" else f"{row['us']:+.2f}") in said


CONTRACT = {
    "contender",
    "variant",
    "layout",
    "backing",
    "order",
    "footprint_bytes",
    "touched_bytes",
    "pattern",
    "probe",
    "form",
    "ns",
    "cycles",
    "ratio",
    "difference",
    "p_adjusted",
    "verdict",
    "smallest_resolvable_ns",
}
MORE = {"level", "level_at_end", "processes", "counts", "rounds_dropped", "mark"}


def test_the_json_has_the_keys_of_the_contract() -> None:
    decoded = reports.summary_of("counted")
    assert {"cells", "noise", "control", "machine", "variants", "plan"} <= set(decoded)
    for cell in (*decoded["cells"], *decoded["noise"], *decoded["harness"]):
        assert set(cell) == CONTRACT | MORE
        assert set(cell["ns"]) == {"median", "low_quantile", "interval"}
        assert len(cell["ns"]["interval"]) == 2
        assert set(cell["cycles"]) == {"median"}
        assert set(cell["ratio"]) == INTERVAL
        assert set(cell["difference"]) == {"ns", "cycles"}
        assert set(cell["difference"]["ns"]) == set(cell["difference"]["cycles"]) == INTERVAL
    assert set(decoded["control"]["cycles"]) == set(decoded["control"]["ns"]) == INTERVAL

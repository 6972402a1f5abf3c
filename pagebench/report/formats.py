"""Formats of reports: a row for each, under what is reported.

What a row renders it imports when it is called, so that the command line can name formats at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _run_text(summary: Any) -> str:
    from pagebench.report import text

    return text.render(summary)


def _run_json(summary: Any) -> str:
    from pagebench.results.summary import to_json

    return to_json(summary)


def _align_text(proven: Any) -> str:
    from pagebench.report import align

    return align.render(proven)


def _align_json(proven: Any) -> str:
    from pagebench.report import align

    return json.dumps(align.to_json(proven), indent=1)


def _info_text(described: Any) -> str:
    from pagebench.report import info

    return info.render(described)


def _info_json(described: Any) -> str:
    from pagebench.report import info

    return json.dumps(info.to_json(described), indent=1)


def _selftest_text(tested: Any) -> str:
    from pagebench.report import selftest

    return selftest.render(tested)


def _selftest_json(tested: Any) -> str:
    from pagebench.report import selftest

    return selftest.to_json(tested)


def _cache_text(behaviour: Any) -> str:
    from pagebench.report import cache

    return cache.render(behaviour)


def _cache_json(behaviour: Any) -> str:
    from pagebench.report import cache

    return cache.to_json(behaviour)


def _cache_csv(behaviour: Any) -> str:
    from pagebench.report import cache

    return cache.to_csv(behaviour)


# Of a run's summary, of a results.proofs.Proven, of a report.info.Info, of a
# report.selftest.Tested, of a report.cache.Behaviour.
FORMATS: Mapping[str, Mapping[str, Callable[[Any], str]]] = {
    "run": {"text": _run_text, "json": _run_json},
    "align": {"text": _align_text, "json": _align_json},
    "info": {"text": _info_text, "json": _info_json},
    "selftest": {"text": _selftest_text, "json": _selftest_json},
    "cache": {"text": _cache_text, "json": _cache_json, "csv": _cache_csv},
}


def _run_figures(summary: Any, directory: Path, stem: str) -> list[Path]:
    from pagebench.report import plots

    return plots.save(plots.figures(summary), directory, stem)


def _align_figure(proven: Any, directory: Path, stem: str) -> list[Path]:
    from pagebench.report import align_figure

    return align_figure.save(proven, directory, stem)


# Files that are written to a directory, each name beginning with the stem; all raise OSError.
FIGURES: Mapping[str, Callable[[Any, Path, str], list[Path]]] = {
    "run": _run_figures,
    "align": _align_figure,
}

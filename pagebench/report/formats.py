"""Formats of reports: a row for each, under what is reported.

What a row renders is imported when it is called, so that the command line can name formats at once.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _by(module: str, function: str) -> Callable[[Any], str]:
    """A function of a module of pagebench that returns text, or what JSON is made of."""

    def render(content: Any) -> str:
        rendered = getattr(importlib.import_module(f"pagebench.{module}"), function)(content)
        return rendered if isinstance(rendered, str) else json.dumps(rendered, indent=1)

    return render


# Of a run's summary, of a results.proofs.Proven, of a report.info.Info, of a
# report.selftest.Tested, of a report.cache.Behaviour, of a report.capture.Captured, of a
# results.change.Comparison, of a results.joining.Joined, of a results.measured.Measured.
FORMATS: Mapping[str, Mapping[str, Callable[[Any], str]]] = {
    "run": {
        "text": _by("report.text", "render"),
        "json": _by("results.summary", "to_json"),
        "mail": _by("report.mail", "render"),
        "markdown": _by("report.markdown", "render"),
    },
    "align": {"text": _by("report.align", "render"), "json": _by("report.align", "to_json")},
    "info": {"text": _by("report.info", "render"), "json": _by("report.info", "to_json")},
    "selftest": {"text": _by("report.selftest", "render"), "json": _by("report.selftest", "to_json")},
    "cache": {
        "text": _by("report.cache", "render"),
        "json": _by("report.cache", "to_json"),
        "csv": _by("report.cache", "to_csv"),
    },
    "compare": {
        "text": _by("report.compare", "render"),
        "json": _by("results.summary", "to_json"),
        "csv": _by("report.compare_export", "to_csv"),
        "markdown": _by("report.compare_export", "to_markdown"),
    },
    "join": {
        "text": _by("report.join", "render"),
        "json": _by("results.summary", "to_json"),
        "markdown": _by("report.join", "to_markdown"),
    },
    "export": {"gobench": _by("report.export", "to_gobench"), "csv": _by("report.export", "to_csv")},
    "capture": {"text": _by("report.capture", "render"), "json": _by("report.capture", "to_json")},
}


def _run_figures(summary: Any, directory: Path, stem: str) -> list[Path]:
    from pagebench.report import cache_figures, plots

    figures = plots.figures(summary) | cache_figures.explained_figures(summary.explanation, summary)
    return plots.save(figures, directory, stem)


def _align_figure(proven: Any, directory: Path, stem: str) -> list[Path]:
    from pagebench.report import align_figure

    return align_figure.save(proven, directory, stem)


def _cache_figures(behaviour: Any, directory: Path, stem: str) -> list[Path]:
    from pagebench.report import cache_figures

    return cache_figures.save(behaviour, directory, stem)


# Files that are written to a directory, each name beginning with the stem; all raise OSError.
FIGURES: Mapping[str, Callable[[Any, Path, str], list[Path]]] = {
    "run": _run_figures,
    "align": _align_figure,
    "cache": _cache_figures,
}

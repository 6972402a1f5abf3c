"""Commands that read result files."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pagebench.commands.output import PLOT_ELSEWHERE, save_plots, write, write_whole
from pagebench.errors import PagebenchError
from pagebench.report.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagebench.results.measured import Measured
    from pagebench.results.summary import Summary


def summary_of(path: Path, margin_cycles: float | None = None) -> Summary:
    """What a result file comes to: what the formats of a run render."""
    from pagebench.results import result_file, summarise

    return summarise.summarise(result_file.read(path), margin_cycles)


def show(args: argparse.Namespace) -> None:
    """The report of a result file, or its summary."""
    write(FORMATS["run"][args.format](summary_of(args.file, args.margin)))


def compare(args: argparse.Namespace) -> None:
    """Result files against the first; by a gate 1 where one is slower, 3 where that is not known."""
    from pagebench.results import changing, gate

    if len(args.files) < 2:
        raise PagebenchError("name two result files or more: all are compared with the first")
    threshold = None if args.fail_above is None else gate.Threshold.parse(args.fail_above)
    compared = changing.compare(_all_measured(args.files), args.force, threshold)
    # Whoever stops reading still gets the gate's exit code.
    with contextlib.suppress(BrokenPipeError):
        write(FORMATS["compare"][args.format](compared))
    gates = [one.gate for one in compared.runs if one.gate is not None]
    codes = [gate.exit_code(one) for one in gates]
    why = {gate.FAILED: "a slow-down is resolved", gate.UNDECIDED: "not every cell is judged"}
    for code in why:
        if code in codes:
            raise PagebenchError(f"{why[code]}, --fail-above {args.fail_above}: see the report", code)


def join(args: argparse.Namespace) -> None:
    """Many machines' result files: a row a CPU model."""
    from pagebench.results import joining

    if len(args.files) < 2:
        raise PagebenchError("name two result files or more")
    write(FORMATS["join"][args.format](joining.join(_all_measured(args.files))))


def _all_measured(files: Sequence[tuple[str, Path]]) -> list[Measured]:
    """Files of one name in several directories are told apart by those."""
    names = [name for name, _ in files]
    return [_measured(name if names.count(name) == 1 else str(path), path) for name, path in files]


def _measured(name: str, path: Path) -> Measured:
    from pagebench.results import measured, result_file

    return measured.Measured(name, result_file.read(path))


def export(args: argparse.Namespace) -> None:
    """The samples of a result file for another tool."""
    write(FORMATS["export"][args.format](_measured(args.file.stem, args.file)))


def report(args: argparse.Namespace) -> None:
    """A result file as one page of HTML."""
    from pagebench.report import html

    page = html.render(summary_of(args.file))
    path = args.output or args.file.with_suffix(".html")
    write_whole(path, page.encode(), args.file)
    write(str(path))


def plot(args: argparse.Namespace) -> None:
    """PNG and SVG of a result file."""
    directory = args.output or args.file.parent
    for path in save_plots("run", summary_of(args.file), directory, args.file.stem, PLOT_ELSEWHERE):
        write(str(path))

"""Commands that measure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagebench.commands.asked import asked_of, run_words, words_of
from pagebench.commands.output import PLOT_ELSEWHERE, save_plots, write, write_whole
from pagebench.commands.reading import summary_of
from pagebench.errors import PagebenchError
from pagebench.report.formats import FORMATS
from pagebench.units import format_size

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from pagebench.results.summary import Summary

# Exit codes beside 0, and 2 for what a user can mend.
INCONCLUSIVE, BROKEN_PROMISE = 3, 4


def run(args: argparse.Namespace) -> None:
    """Measure, report, leave plots; or go on with a run."""
    from pagebench.measure import contenders, session

    asked = asked_of(args)
    words = run_words(args, asked)
    words += [word for name, path in args.own for word in ("--variant", f"{name}={path}")]
    words += [word for cc in args.cc for word in ("--cc", cc)]
    words += ["--static"] if args.static else []
    if args.resume:
        given = [*words[1:], *words_of({name: asked[name] for name in ("seed", "cpu") if name in asked})]
        if given or args.output:
            what = ", ".join(word for word in given if word.startswith("--")) or "--output"
            raise PagebenchError(f"--resume takes its options from {args.resume}: leave out {what}")
        path = session.resume(args.resume)
    else:
        extra = contenders.Outside(args.own, args.cc, args.kernel, args.kernel_cc)
        path = session.start(asked, extra, args.output, words, args.static)
    summary = summary_of(path)
    if args.counters or not any(cell.counts for cell in summary.cells):
        summary = _simulated(path) or summary
    write(FORMATS["run"]["text"](summary))
    write(f"\nraw data: {path}")
    if not args.no_plots:
        for file in save_plots("run", summary, path.parent, path.stem, PLOT_ELSEWHERE):
            if file.suffix == ".png":
                write(f"plot:     {file} (and .svg)")
    if summary.resolution and summary.resolution.unresolved:
        left, of = len(summary.resolution.unresolved), summary.resolution.comparisons
        raise PagebenchError(
            f"{left} of {of} comparisons do not resolve {summary.resolution.target}: see the report",
            exit_code=INCONCLUSIVE,
        )


def _simulated(path: Path) -> Summary | None:
    """The summary with what simulated caches make of it; None, and why, where nothing can be simulated.

    All that was measured is there without it.
    """
    from pagebench.cache import asking

    try:
        asking.into_file(path)
    except (PagebenchError, KeyboardInterrupt) as error:
        print(f"pagebench: caches were not simulated: {str(error) or 'interrupted'}", file=sys.stderr)
        return None
    return summary_of(path)


def bundle(args: argparse.Namespace) -> None:
    """A result file with what it was measured with, in one file."""
    from pagebench.measure import bundling

    content = bundling.collect(args.file)
    path = args.output or args.file.with_suffix(".tar.zst")
    write_whole(path, content, args.file)
    write(f"bundle: {path} ({format_size(len(content))})")


def replay(args: argparse.Namespace) -> None:
    """A bundle's objects run again here, and what they come to beside what they came to."""
    from pagebench.measure import replaying
    from pagebench.results import changing, joining, measured, provenance, result_file

    bundled = replaying.open_bundle(args.bundle)
    words = ["replay", str(args.bundle)]
    path = replaying.replay(bundled, args.output, words, args.cpu, args.seed)
    runs = [
        measured.Measured("bundle", bundled.run),
        measured.Measured("here", result_file.read(path)),
    ]
    here, there = (provenance.cpu(run.run.header.machine) for run in runs)
    try:
        if here == there:
            text = FORMATS["compare"]["text"](changing.compare(runs))
        else:
            text = FORMATS["join"]["text"](joining.join(runs))
    except PagebenchError:
        write(f"raw data: {path}")  # measured it is
        raise
    write(text)
    write(f"\nraw data: {path}")


def selftest(args: argparse.Namespace) -> None:
    """Runs over pairs whose true difference is known; 4 where a promise is broken."""
    from pagebench.measure import contenders, session
    from pagebench.plan.options import SELFTEST_RUNS
    from pagebench.report.selftest import Tested
    from pagebench.results import promises, result_file, summarise

    path = args.of
    given = [f"--{name}" for name in ("runs", "seed", "cpu", "output") if getattr(args, name) is not None]
    if path is not None and given:
        raise PagebenchError(f"--of judges what was measured: leave out {', '.join(given)}")
    runs = args.runs or SELFTEST_RUNS
    if path is None:
        asked: dict[str, Any] = {"extent": "selftest", "processes": runs * args.processes}
        asked |= {name: value for name in ("seed", "cpu") if (value := getattr(args, name)) is not None}
        words = ["selftest", "--runs", str(runs), "--processes", str(args.processes)]
        path = session.start(asked, contenders.Outside(), args.output, words)
    run = result_file.read(path)
    tested = Tested(summarise.summarise(run), promises.selftest(run, args.processes))
    write(FORMATS["selftest"][args.format](tested))
    if args.format == "text":
        write(f"\nraw data: {path}")
    broken = [promise for promise in tested.selftest.promises if not promise.kept]
    if broken:
        raise PagebenchError(f"{len(broken)} promises are broken: {broken[0].what}", exit_code=BROKEN_PROMISE)

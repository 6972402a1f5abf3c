"""What each command does with its options.

Imports are where they are needed, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pagebench.errors import PagebenchError
from pagebench.report.formats import FIGURES, FORMATS

if TYPE_CHECKING:
    from pagebench.core import Variant
    from pagebench.results.summary import Summary


def write(text: str) -> None:
    """To standard output, which someone may have closed, as in ``| head``."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise PagebenchError(f"cannot write to standard output: {error.strerror}") from error


# Exit codes beside 0, and 2 for what a user can mend.
INCONCLUSIVE, BROKEN_PROMISE = 3, 4

# What `run` asks of a plan: fields of options.Options, and the options that set
# them.  The seed is added by the run itself, the CPU is the machine's matter.
ASKED = {
    "extent": "",
    "preset": "--preset",
    "contenders": "--contenders",
    "orders": "--orders",
    "footprints": "--footprints",
    "patterns": "--patterns",
    "probes": "--probes",
    "struct_page_bytes": "--struct-page",
    "memory_model": "--memory-model",
    "rounds": "--rounds",
    "processes": "--processes",
    "margin_cycles": "--margin",
    "seed": "--seed",
    "cpu": "--cpu",
    "resolve": "--resolve",
    "at_most": "--at-most",
    "folios": "--folios",
}


def run(args: argparse.Namespace) -> None:
    """Measure, report, leave plots; or go on with a run."""
    from pagebench.measure import contenders, session

    asked = _asked(args)
    words = words_of({name: value for name, value in asked.items() if name not in ("seed", "cpu")})
    words += [word for name, path in args.kernel for word in ("--kernel", f"{name}={path}")]
    words += ["--kernel-cc", args.kernel_cc] if args.kernel_cc else []
    words += [word for name, path in args.own for word in ("--variant", f"{name}={path}")]
    words += [word for cc in args.cc for word in ("--cc", cc)]
    words += ["--static"] if args.static else []
    if args.resume:
        given = [*words, *words_of({name: asked[name] for name in ("seed", "cpu") if name in asked})]
        if given or args.output:
            what = ", ".join(word for word in given if word.startswith("--")) or "--output"
            raise PagebenchError(f"--resume takes its options from {args.resume}: leave out {what}")
        path = session.resume(args.resume)
    else:
        extra = contenders.Outside(args.own, args.cc, args.kernel, args.kernel_cc)
        path = session.start(asked, extra, args.output, ["run", *words], args.static)
    summary = _summary_of(path)
    if args.counters or not any(cell.counts for cell in summary.cells):
        summary = _simulated(path) or summary
    write(FORMATS["run"]["text"](summary))
    write(f"\nraw data: {path}")
    if not args.no_plots:
        for file in _save_plots("run", summary, path.parent, path.stem, PLOT_ELSEWHERE):
            if file.suffix == ".png":
                write(f"plot:     {file} (and .svg)")
    if summary.resolution and summary.resolution.unresolved:
        left, of = len(summary.resolution.unresolved), summary.resolution.comparisons
        raise PagebenchError(
            f"{left} of {of} comparisons do not resolve {summary.resolution.target}: see the report",
            exit_code=INCONCLUSIVE,
        )


def _asked(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of a plan."""
    from pagebench.plan import machine_folios

    asked = {name: value for name in ASKED if (value := getattr(args, name, None)) is not None}
    if "folios" in asked:
        asked["folios"] = machine_folios.of(asked["folios"])
    return asked


def words_of(asked: dict[str, object]) -> list[str]:
    """Options as they are typed, from the fields that they set."""
    words: list[str] = []
    for name, value in asked.items():
        if name == "extent":
            words.append(f"--{value}")
        else:
            words += [ASKED[name], ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def _summary_of(path: Path, margin_cycles: float | None = None) -> Summary:
    """What a result file comes to: what the formats of a run render."""
    from pagebench.results import result_file, summarise

    return summarise.summarise(result_file.read(path), margin_cycles)


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
    return _summary_of(path)


PLOT_ELSEWHERE = "`plot -o DIR`"


def _save_plots(subject: str, content: Any, directory: Path, stem: str, elsewhere: str) -> list[Path]:
    try:
        return FIGURES[subject](content, directory, stem)
    except OSError as error:
        raise PagebenchError(
            f"cannot write plots to {directory}: {error.strerror}; name another with {elsewhere}"
        ) from error


def _say_plots(written: Sequence[Path], stream: TextIO) -> None:
    if not written:
        print("plot: nothing to draw of so few cells", file=stream)
    for file in written:
        if file.suffix == ".png":
            print(f"plot: {file} (and .svg)", file=stream)


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


def show(args: argparse.Namespace) -> None:
    """The report of a result file, or its summary."""
    write(FORMATS["run"][args.format](_summary_of(args.file, args.margin)))


def plot(args: argparse.Namespace) -> None:
    """PNG and SVG of a result file."""
    directory = args.output or args.file.parent
    for path in _save_plots("run", _summary_of(args.file), directory, args.file.stem, PLOT_ELSEWHERE):
        write(str(path))


def asm(args: argparse.Namespace) -> None:
    """The machine code of a probe, of all variants or of kernel trees."""
    from pagebench import names
    from pagebench.code import form
    from pagebench.report import listing
    from pagebench.variants import registry
    from pagebench.variants.origin import origin_of

    if args.probe not in names.PROBES:
        raise names.nearest(args.probe, names.PROBES, "probe")
    objects = [one for name, tree in args.kernel for one in registry.of_tree(name, tree, args.kernel_cc)[0]]
    table = {one.name: registry.load(one) for one in objects} or dict(registry.known())
    if args.variant:
        table = {args.variant: registry.find(args.variant) if not objects else _pick(args.variant, table)}
    listings = {name: form.analyse(variant.probes[args.probe]) for name, variant in table.items()}
    for name, variant in table.items():
        write(listing.render(origin_of(variant), args.probe, listings[name]))
    if len(args.kernel) == 2 and not args.variant:
        before, after = ((origin_of(table[name]), listings[name]) for name, _ in args.kernel)
        write(listing.side_by_side(before, after))


def _pick(name: str, table: Mapping[str, Variant]) -> Variant:
    from pagebench import names

    if name not in table:
        raise names.nearest(name, table, "variant of these trees")
    return table[name]


def align(args: argparse.Namespace) -> None:
    """The proofs of the memory models; 1 where one disagrees with the arithmetic."""
    from pagebench import names, prove
    from pagebench.memmap import models
    from pagebench.results.proofs import disagreements
    from pagebench.units import format_size, parse_size

    pages = {format_size(page.bytes): page for page in models.BASE_PAGES}
    sizes = {str(size): size for size in names.BUILT_IN_STRUCT_PAGES}
    chosen_pages = dict.fromkeys(format_size(parse_size(text)) for text in args.base_page or pages)
    chosen_sizes = dict.fromkeys(args.struct_page or sizes)
    for name in chosen_pages:
        if name not in pages:
            raise names.nearest(name, pages, "base page")
    for name in chosen_sizes:
        if name not in sizes:
            raise names.nearest(name, sizes, "struct page")
    proven = prove.prove(
        [pages[name] for name in chosen_pages], [sizes[name] for name in chosen_sizes], args.max_order
    )
    write(FORMATS["align"][args.format](proven))
    if not args.no_plots:
        written = _save_plots("align", proven, args.output, "align", "-o, or --no-plots")
        _say_plots(written, sys.stdout if args.format == "text" else sys.stderr)
    if wrong := disagreements(proven.proofs):
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise PagebenchError(f"a proof disagrees with the arithmetic: {wrong[0]}{more}", exit_code=1)


def cache(args: argparse.Namespace) -> None:
    """What the timed code does to simulated caches."""
    from pagebench.cache import asking
    from pagebench.measure import contenders

    asked = _asked(args)
    changes = {name: getattr(args, name) for name in GEOMETRY if getattr(args, name)}
    if args.beside is not None:
        given = [
            *words_of(asked),
            *(["--kernel"] if args.kernel else []),
            *(["--variant"] if args.own else []),
        ]
        if given:
            what = ", ".join(word for word in given if word.startswith("--"))
            raise PagebenchError(f"--with takes its cells from {args.beside}: leave out {what}")
        behaviour = asking.beside(args.beside, args.geometry, changes)
    else:
        extra = contenders.Outside(args.own, (), args.kernel, args.kernel_cc)
        behaviour = asking.behaviour({"extent": "cache", **asked}, extra, args.geometry, changes)
    write(FORMATS["cache"][args.format](behaviour))
    if not args.no_plots:
        stem = "cache" if args.beside is None else args.beside.stem
        written = _save_plots("cache", behaviour, args.output, stem, "-o, or --no-plots")
        _say_plots(written, sys.stdout if args.format == "text" else sys.stderr)


# Options of `cache` that are fields of a geometry.
GEOMETRY = ("policy", "prefetch", "inclusive", "huge_pages", "frames")


def info(args: argparse.Namespace) -> None:
    """The running kernel."""
    from pagebench import tool
    from pagebench.host import machine, running_kernel
    from pagebench.plan.counterparts import counterparts, suggest
    from pagebench.report.info import Info

    running, here = running_kernel.describe(), machine.describe(machine.default_cpu())
    described = Info(tool.identity(), here, running, counterparts(running), suggest(running, here))
    write(FORMATS["info"][args.format](described))


THIS_MACHINE = Path()


def capture(args: argparse.Namespace) -> None:
    """The folios of this machine into a file; or what a file, or this machine, comes to."""
    from pagebench import tool
    from pagebench.host import captures, memory_counts
    from pagebench.report.capture import Captured
    from pagebench.results import census

    if (args.output is None) == (args.summary is None):
        raise PagebenchError("name a file to capture to, `-o FILE`, or ask for `--summary`: one of both")
    if args.output is not None:
        from pagebench import capturing

        captures.check_new(args.output)
        found = capturing.capture(args.window, args.pid)
        size = captures.write(found, args.output)
        seen = Captured(tool.identity(), census.take(found))
        write(FORMATS["capture"][args.format](seen))
        if args.format == "text":
            write(f"\ncapture: {args.output} ({len(found.runs)} runs, {size} bytes)")
        return
    if args.pid is not None or (args.window and args.summary != THIS_MACHINE):
        raise PagebenchError("--pid and --window are for what is captured: leave them out beside --summary")
    if args.summary != THIS_MACHINE:
        seen = Captured(tool.identity(), census.take(captures.read(args.summary)))
        write(FORMATS["capture"][args.format](seen))
        return
    counts = memory_counts.describe()
    try:
        from pagebench import capturing

        seen = Captured(tool.identity(), census.take(capturing.capture(args.window)), counts)
    except PagebenchError as error:
        seen = Captured(tool.identity(), None, counts, str(error))
    write(FORMATS["capture"][args.format](seen))


def list_(args: argparse.Namespace) -> None:
    """What there is to measure."""
    from pagebench import core
    from pagebench.cache import cpus
    from pagebench.code import form
    from pagebench.report import catalogue
    from pagebench.variants.origin import origin_of

    variants = (
        (origin_of(variant), form.analyse(variant.probes["chain"]).form)
        for variant in core.built_in_variants().values()
    )
    caches = {
        name: f"{', '.join(map(str, cpu.caches))}; TLB {cpu.tlbs}" for name, cpu in cpus.CPUS_KNOWN.items()
    }
    write(catalogue.render(variants, caches))


COMMANDS = {
    "run": run,
    "selftest": selftest,
    "show": show,
    "plot": plot,
    "asm": asm,
    "align": align,
    "cache": cache,
    "info": info,
    "capture": capture,
    "list": list_,
}

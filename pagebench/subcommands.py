"""The options of every command, generated from the tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pagebench import names
from pagebench.arguments import (
    add_axes,
    add_files,
    add_folios,
    add_format,
    add_kernel_options,
    add_plots,
    add_variants,
    at_least,
    every,
    margin,
    named_tree,
    names_list,
    window,
)
from pagebench.commands.looking import THIS_MACHINE
from pagebench.memmap.models import BASE_PAGES, MODELS
from pagebench.names import PROBES
from pagebench.plan.options import (
    AT_MOST,
    DEFAULT_MARGIN_CYCLES,
    DEFAULT_PROCESSES,
    DEFAULT_ROUNDS,
    FEWEST_PROCESSES,
    SELFTEST_RUNS,
)
from pagebench.plan.presets import FULL_GRIDS, PRESETS, QUICK_GRIDS
from pagebench.units import format_size

if TYPE_CHECKING:
    # What add_subparsers() returns: there is no other name for it.
    Subcommands = argparse._SubParsersAction[Any]


def measuring(subcommands: Subcommands) -> None:
    """Commands that measure, and what is sent and measured elsewhere."""
    run = subcommands.add_parser(
        "run", help="measure, report, leave raw data and plots", description="Measure and report."
    )
    run.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="result file; default: a new one in pagebench-results/",
    )
    run.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with an interrupted run; takes its options from FILE",
    )
    (quick,), (full,) = QUICK_GRIDS, FULL_GRIDS
    extent = run.add_mutually_exclusive_group()
    extent.add_argument("--preset", metavar="NAME", help=f"{every(PRESETS)}: see `list`")
    extent.add_argument(
        "--quick",
        dest="extent",
        action="store_const",
        const="quick",
        help=f"some ten seconds: {every(quick.probes)} over {every(quick.footprints)}",
    )
    extent.add_argument(
        "--full",
        dest="extent",
        action="store_const",
        const="full",
        help=f"many minutes: {every(full.patterns)} by {every(full.probes)}",
    )
    add_axes(run)
    add_folios(run)
    run.add_argument(
        "--rounds", type=at_least(7), metavar="N", help=f"rounds in each process ({DEFAULT_ROUNDS})"
    )
    run.add_argument(
        "--processes",
        type=at_least(2),
        metavar="N",
        help=f"worker processes, one at a time ({DEFAULT_PROCESSES})",
    )
    run.add_argument(
        "--seed", type=at_least(0), metavar="N", help="of every draw; a new one by default, recorded"
    )
    add_variants(run)
    run.add_argument(
        "--cc",
        action="append",
        default=[],
        metavar="CC",
        help="the built-in variants by another compiler too, as mask+clang; repeatable",
    )
    run.add_argument(
        "--memory-model",
        metavar="NAME",
        help="memmaps at the worst addresses that a memory model allows, see `align`: "
        + every(model.name for model in MODELS),
    )
    run.add_argument("--cpu", type=at_least(0), metavar="N", help="the CPU to measure on")
    run.add_argument(
        "--margin",
        dest="margin_cycles",
        type=margin,
        metavar="CYCLES",
        help=f"`equivalent` within this many core cycles ({DEFAULT_MARGIN_CYCLES})",
    )
    run.add_argument(
        "--resolve",
        metavar="AMOUNT",
        help="go on in processes until every comparison resolves 0.02ns, 0.1cycles or 0.5%%; "
        "exit code 3 where one does not",
    )
    run.add_argument(
        "--at-most", metavar="TIME", help=f"stop resolving after 90s, 10min or 2h; default: {AT_MOST}"
    )
    run.add_argument(
        "--static", action="store_true", help="llvm-mca's prediction of each loop beside its cycles in L1"
    )
    run.add_argument(
        "--counters",
        action="store_true",
        help="simulate caches where a PMU counts, too, and set both side by side",
    )
    run.add_argument("--no-plots", action="store_true", help="leave the raw data alone")

    selftest = subcommands.add_parser(
        "selftest",
        help="whether the promises hold here, and what this machine resolves",
        description="Many runs over pairs whose true difference is known: whether the promises hold on this "
        "machine, and what it resolves in which time. Exit code 4 where a promise is broken.",
    )
    selftest.add_argument("--runs", type=at_least(2), metavar="N", help=f"how many; default: {SELFTEST_RUNS}")
    selftest.add_argument(
        "--processes",
        type=at_least(FEWEST_PROCESSES),
        default=FEWEST_PROCESSES,
        metavar="N",
        help="worker processes of each run; default: %(default)s",
    )
    selftest.add_argument("--seed", type=at_least(0), metavar="N", help="of every draw")
    selftest.add_argument("--cpu", type=at_least(0), metavar="N", help="the CPU to measure on")
    selftest.add_argument("-o", "--output", type=Path, metavar="FILE", help="result file")
    selftest.add_argument("--of", type=Path, metavar="FILE", help="judge an earlier self-test's result file")
    add_format(selftest, "selftest")

    bisect = subcommands.add_parser(
        "bisect",
        help="for `git bisect run`: is a kernel tree good, bad, or not to be told?",
        description="For `git bisect run`, in a kernel tree: exit code 0 where it is as expected, or no "
        "slower than a good tree, 1 where it is not, 125 where it does not build or noise allows no verdict; "
        "129, at which git stops, for what is wrong with the command line or the machine.",
    )
    bisect.add_argument(
        "--kernel",
        action="append",
        required=True,
        type=named_tree,
        metavar="[NAME=]TREE",
        help="the tree; with --fail-above a good one first, that is not bisected",
    )
    bisect.add_argument(
        "--kernel-cc", metavar="CC", help="compile with this; default: as they were configured"
    )
    question = bisect.add_mutually_exclusive_group(required=True)
    question.add_argument(
        "--expect",
        metavar="LIST",
        help="what its lookup is to be: form=branch, select or arith; instructions and bytes by <=, as in "
        "form=arith,instructions<=6",
    )
    question.add_argument(
        "--fail-above", metavar="AMOUNT", help="5%%, 0.2ns or 0.5cycles: the slow-down from which it is bad"
    )
    bisect.add_argument(
        "--probe",
        default="chain",
        metavar="PROBE",
        help="with --expect, whose loop; default: %(default)s. The axes are those of --fail-above, a quick "
        "run's by default",
    )
    add_axes(bisect)
    bisect.add_argument(
        "--processes", type=at_least(2), metavar="N", help="with --fail-above, worker processes"
    )
    bisect.add_argument("--cpu", type=at_least(0), metavar="N", help="the CPU to measure on")
    bisect.add_argument("-o", "--output", type=Path, metavar="FILE", help="keep the result file")

    bundle = subcommands.add_parser(
        "bundle",
        help="a result file with the objects that were timed, in one file",
        description="A result file with the shared objects that were timed, their sources, configuration and "
        "versions, in one .tar.zst, for `replay` on another machine.",
    )
    bundle.add_argument("file", type=Path, metavar="FILE")
    bundle.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="BUNDLE",
        help="default: beside FILE, ending in .tar.zst; is replaced",
    )

    replay = subcommands.add_parser(
        "replay",
        help="a bundle's objects run again here, and compared",
        description="The objects of a bundle run again on this machine, over the same cells, and what they "
        "come to compared. That is machine code of whoever made the bundle: run it as you would a program of "
        "theirs.",
    )
    replay.add_argument("bundle", type=Path, metavar="BUNDLE")
    replay.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="result file; default: a new one in pagebench-results/",
    )
    replay.add_argument("--cpu", type=at_least(0), metavar="N", help="the CPU to measure on")
    replay.add_argument("--seed", type=at_least(0), metavar="N", help="of every draw; a new one by default")


def reading(subcommands: Subcommands) -> None:
    """Commands that read result files."""
    show = subcommands.add_parser(
        "show", help="the report of a result file", description="The report of a result file."
    )
    show.add_argument("file", type=Path, metavar="FILE")
    add_format(show, "run")
    show.add_argument(
        "--margin",
        type=margin,
        metavar="CYCLES",
        help="`equivalent` within this many core cycles; default: as the run was asked for",
    )

    plot = subcommands.add_parser(
        "plot", help="PNG and SVG of a result file", description="PNG and SVG of a result file."
    )
    plot.add_argument("file", type=Path, metavar="FILE")
    plot.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to; default: beside FILE")

    report = subcommands.add_parser(
        "report",
        help="a result file as one page of HTML",
        description="A result file as one page of HTML, which needs nothing else and no network: the verdict "
        "in words, tables that can be sorted, plots, machine code, machine, warnings, command.",
    )
    report.add_argument("file", type=Path, metavar="FILE")
    report.add_argument(
        "-o", "--output", type=Path, metavar="PAGE", help="default: beside FILE, ending in .html; is replaced"
    )

    compare = subcommands.add_parser(
        "compare",
        help="result files against the first one; with --fail-above a gate",
        description="Result files against the first one. What differs between their machines is said first, "
        "and other CPU models are refused. Differences to what has the same machine code in both runs are "
        "compared, not absolute times.",
    )
    add_files(compare)
    compare.add_argument(
        "--fail-above",
        metavar="AMOUNT",
        help="5%%, 0.2ns or 0.5cycles: exit code 1 where a larger slow-down is resolved, 3 where noise keeps "
        "a cell from being judged, else 0",
    )
    compare.add_argument("--force", action="store_true", help="compare different CPU models all the same")
    add_format(compare, "compare")

    join = subcommands.add_parser(
        "join",
        help="many machines' result files: a row a CPU model",
        description="Result files of many machines: sign and size of each effect, a row a CPU model, best "
        "and worst, and which machines cannot resolve it.",
    )
    add_files(join)
    add_format(join, "join")

    export = subcommands.add_parser(
        "export",
        help="the samples of a result file for benchstat, or as CSV",
        description="The samples of a result file for another tool, a value a process and cell: gobench is "
        "what benchstat reads.",
    )
    export.add_argument("file", type=Path, metavar="FILE")
    add_format(export, "export")


def looking(subcommands: Subcommands) -> None:
    """Commands that look at code, memory models, simulated caches, this machine."""
    asm = subcommands.add_parser(
        "asm", help="the machine code that is timed", description="The machine code that is timed."
    )
    asm.add_argument("variant", nargs="?", metavar="VARIANT", help="default: all")
    add_kernel_options(asm)
    asm.add_argument(
        "--probe", default="chain", metavar="PROBE", help=f"{every(PROBES)}; default: %(default)s"
    )

    align = subcommands.add_parser(
        "align",
        help="memory models against orders, proven",
        description="Which memory models promise enough alignment for the mask, proven for each order.",
    )
    base_pages = every(format_size(page.bytes) for page in BASE_PAGES)
    align.add_argument("--base-page", type=names_list, metavar="LIST", help=f"{base_pages}; default: all")
    align.add_argument(
        "--struct-page",
        type=names_list,
        metavar="LIST",
        help=f"bytes: {every(names.BUILT_IN_STRUCT_PAGES)}; default: all",
    )
    align.add_argument("--max-order", type=at_least(0), metavar="N", help="default: MAX_FOLIO_ORDER")
    add_format(align, "align")
    add_plots(align)

    cache = subcommands.add_parser(
        "cache",
        help="cache, TLB and branch behaviour, simulated",
        description="What the timed code's own accesses do to caches, TLBs and branch predictors: recorded, "
        "and simulated on physical addresses.",
    )
    add_axes(cache)
    add_folios(cache)
    add_variants(cache)
    cache.add_argument(
        "--geometry",
        metavar="NAME",
        help="a CPU's caches instead of this machine's, or a JSON file's; see `list`",
    )
    cache.add_argument("--policy", choices=get_args(names.Policy), help="of replacement; default: lru")
    cache.add_argument("--prefetch", choices=get_args(names.Prefetch), help="by each level; default: none")
    cache.add_argument(
        "--huge-pages",
        choices=get_args(names.HugePages),
        help="whether a host maps 2M pages by one of its own, or split; default: as measured",
    )
    cache.add_argument(
        "--pagemap",
        dest="frames",
        action="store_const",
        const="pagemap",
        help="physical frames as they are here, as root; default: drawn",
    )
    cache.add_argument(
        "--inclusive", action="store_true", help="what leaves the last level leaves the others too"
    )
    cache.add_argument(
        "--with",
        dest="beside",
        type=Path,
        metavar="FILE",
        help="explain the times of a run's result file by them; its cells are simulated",
    )
    cache.add_argument("--seed", type=at_least(0), metavar="N", help="of every draw")
    cache.add_argument("--cpu", type=at_least(0), metavar="N", help="the CPU whose caches they are")
    add_format(cache, "cache")
    add_plots(cache)

    info = subcommands.add_parser(
        "info",
        help="this machine, this kernel, what its compound_head() is",
        description="This machine, this kernel, what its compound_head() is.",
    )
    add_format(info, "info")

    capture = subcommands.add_parser(
        "capture",
        help="this machine's folios, in a file that holds no addresses and no contents",
        description="This machine's folios, by kind and order, in a file. From /proc/kpageflags, as root.",
    )
    capture.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the capture; compressed where FILE ends in .gz"
    )
    capture.add_argument(
        "--pid", type=at_least(1), metavar="PID", help="and which of them this process has mapped"
    )
    capture.add_argument(
        "--window", type=window, metavar="PFN,COUNT", help="COUNT pfns from PFN on; default: all"
    )
    capture.add_argument(
        "--summary",
        nargs="?",
        type=Path,
        const=THIS_MACHINE,
        metavar="FILE",
        help="what a capture comes to; without FILE what can be seen of this machine now",
    )
    add_format(capture, "capture")

    subcommands.add_parser(
        "list", help="variants, layouts, patterns, probes", description="What there is to measure."
    )

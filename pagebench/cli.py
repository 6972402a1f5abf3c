"""The command line: options in, words out.  Nothing is decided here.

Commands import what they need when they run, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pagebench import __version__
from pagebench.errors import PagebenchError

if TYPE_CHECKING:
    from pagebench.core import Variant

EPILOG = """\
examples:
  python -m pagebench run
      the main question in about a minute: report, raw data, plots
  python -m pagebench run --quick
      ten seconds, latency in L1 and L2 only
  python -m pagebench run --contenders pointer-branch,branchless \\
      --orders 9 --footprints l1,dram --patterns random,tails
      the first contender is the reference; axes that are not named keep
      the default run's
  python -m pagebench show FILE --format json
      the summary of a result file, for machines
  python -m pagebench asm branchless --probe chain
      the machine code that is timed

exit codes: 0 done; 1 a gate failed; 2 usage or input; 3 inconclusive where a
verdict was asked for; 4 a self-test failed; 130 interrupted (what was
measured is kept)
"""


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what main() prints."""
        raise PagebenchError(f"{message} (see `{self.prog} --help`)")

    def print_help(self, file: Any = None) -> None:
        """To standard output, as everything else."""
        _print(self.format_help())


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError("an empty list or name: give names separated by commas")
    return names


def _orders(text: str) -> list[int]:
    try:
        return [int(order) for order in _names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of orders: write it as 0,2,9") from None


def _at_least(least: int):  # type: ignore[no-untyped-def]
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small: give {least} or more")
        return value

    return number


def _margin(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of core cycles above 0")
    return value


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=PATH")
    return name, Path(path)


def _add_kernel_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kernel",
        action="append",
        default=[],
        type=_named_path,
        metavar="NAME=TREE",
        help="the compound_head() of a configured kernel tree or header package; repeatable",
    )
    command.add_argument(
        "--kernel-cc", metavar="CC", help="compile kernel trees with this; default: as they were configured"
    )


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="pagebench",
        description="What compound_head() costs: pointer and mask encodings of tail pages, measured.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="the version and commit, and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    run = commands.add_parser(
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
    extent = run.add_mutually_exclusive_group()
    extent.add_argument("--preset", metavar="NAME", help="series, fake-heads or branch: see `list`")
    extent.add_argument(
        "--quick",
        dest="extent",
        action="store_const",
        const="quick",
        help="some ten seconds: chain in L1 and L2",
    )
    extent.add_argument(
        "--full",
        dest="extent",
        action="store_const",
        const="full",
        help="all patterns and probes: many minutes",
    )
    run.add_argument(
        "--contenders",
        type=_names,
        metavar="LIST",
        help="variant[@layout[:backing]],…; the first is the reference",
    )
    run.add_argument("--orders", type=_orders, metavar="LIST", help="folio orders, as in 0,2,4,9")
    run.add_argument("--footprints", type=_names, metavar="LIST", help="16K,256K,… or l1,l2,l3,dram")
    run.add_argument("--patterns", type=_names, metavar="LIST", help="random,heads,tails,mixed[:SHARE],scan")
    run.add_argument("--probes", type=_names, metavar="LIST", help="lookup,chain,flags,get")
    run.add_argument("--rounds", type=_at_least(7), metavar="N", help="rounds in each process (63)")
    run.add_argument(
        "--processes", type=_at_least(2), metavar="N", help="worker processes, one at a time (24)"
    )
    run.add_argument(
        "--seed", type=_at_least(0), metavar="N", help="of every draw; a new one by default, recorded"
    )
    run.add_argument(
        "--struct-page",
        dest="struct_page_bytes",
        type=_at_least(56),
        metavar="BYTES",
        help="sizeof(struct page): 56, 64 and 96 are built in, others compiled when asked for",
    )
    _add_kernel_options(run)
    run.add_argument(
        "--variant",
        dest="own",
        action="append",
        default=[],
        type=_named_path,
        metavar="NAME=FILE.c",
        help="your own compound_head() and set_compound_head() over page.h; repeatable",
    )
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
        help="memmaps at the worst addresses that a memory model allows: see `align`",
    )
    run.add_argument("--cpu", type=_at_least(0), metavar="N", help="the CPU to measure on")
    run.add_argument(
        "--margin",
        dest="margin_cycles",
        type=_margin,
        metavar="CYCLES",
        help="`equivalent` within this many core cycles (0.25)",
    )
    run.add_argument("--no-plots", action="store_true", help="leave the raw data alone")

    show = commands.add_parser(
        "show", help="the report of a result file", description="The report of a result file."
    )
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument("--format", choices=("text", "json"), default="text")
    show.add_argument(
        "--margin", type=_margin, metavar="CYCLES", help="`equivalent` within this many core cycles"
    )

    plot = commands.add_parser(
        "plot", help="PNG and SVG of a result file", description="PNG and SVG of a result file."
    )
    plot.add_argument("file", type=Path, metavar="FILE")
    plot.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to; default: beside FILE")

    asm = commands.add_parser(
        "asm", help="the machine code that is timed", description="The machine code that is timed."
    )
    asm.add_argument("variant", nargs="?", metavar="VARIANT", help="default: all")
    _add_kernel_options(asm)
    asm.add_argument("--probe", default="chain", metavar="PROBE", help="lookup, chain (default), flags, get")

    align = commands.add_parser(
        "align",
        help="memory models against orders, proven",
        description="Which memory models promise enough alignment for the mask, proven for each order.",
    )
    align.add_argument("--base-page", type=_names, metavar="LIST", help="4K,16K,64K; default: all")
    align.add_argument("--struct-page", type=_names, metavar="LIST", help="bytes: 64,56,96; default: all")
    align.add_argument("--max-order", type=_at_least(0), metavar="N", help="default: MAX_FOLIO_ORDER")
    align.add_argument("--format", choices=("text", "json"), default="text")
    align.add_argument(
        "-o", "--output", type=Path, default=Path("pagebench-results"), metavar="DIR", help="of the plot"
    )
    align.add_argument("--no-plots", action="store_true", help="the report alone")

    info = commands.add_parser(
        "info",
        help="this machine, this kernel, what its compound_head() is",
        description="This machine, this kernel, what its compound_head() is.",
    )
    info.add_argument("--format", choices=("text", "json"), default="text")

    commands.add_parser(
        "list", help="variants, layouts, patterns, probes", description="What there is to measure."
    )
    return top


def _print(text: str) -> None:
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
}


def _run(args: argparse.Namespace) -> None:
    from pagebench import results, session, summary
    from pagebench.report import text

    asked = {name: value for name in ASKED if (value := getattr(args, name)) is not None}
    words = _words({name: value for name, value in asked.items() if name not in ("seed", "cpu")})
    words += [word for name, path in args.kernel for word in ("--kernel", f"{name}={path}")]
    words += ["--kernel-cc", args.kernel_cc] if args.kernel_cc else []
    words += [word for name, path in args.own for word in ("--variant", f"{name}={path}")]
    words += [word for cc in args.cc for word in ("--cc", cc)]
    if args.resume:
        given = [*words, *_words({name: asked[name] for name in ("seed", "cpu") if name in asked})]
        if given or args.output:
            what = ", ".join(word for word in given if word.startswith("--")) or "--output"
            raise PagebenchError(f"--resume takes its options from {args.resume}: leave out {what}")
        path = session.resume(args.resume)
    else:
        extra = session.Extra(args.own, args.cc, args.kernel, args.kernel_cc)
        path = session.start(asked, extra, args.output, words)
    found = summary.summarise(results.read(path))
    _print(text.render(found))
    _print(f"\nraw data: {path}")
    if not args.no_plots:
        for file in _save_plots(found, path.parent, path.stem):
            if file.suffix == ".png":
                _print(f"plot:     {file} (and .svg)")


def _words(asked: dict[str, object]) -> list[str]:
    """Options as they are typed, from the fields that they set."""
    words: list[str] = []
    for name, value in asked.items():
        if name == "extent":
            words.append(f"--{value}")
        else:
            words += [ASKED[name], ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def _save_plots(found: dict[str, object], directory: Path, stem: str) -> list[Path]:
    from pagebench.report import plots

    try:
        return plots.save(plots.figures(found), directory, stem)
    except OSError as error:
        raise PagebenchError(
            f"cannot write plots to {directory}: {error.strerror}; name another with `plot -o DIR`"
        ) from error


def _show(args: argparse.Namespace) -> None:
    from pagebench import results, summary

    found = summary.summarise(results.read(args.file), args.margin)
    if args.format == "json":
        import json

        _print(json.dumps(found, indent=1))
    else:
        from pagebench.report import text

        _print(text.render(found))


def _plot(args: argparse.Namespace) -> None:
    from pagebench import results, summary

    found = summary.summarise(results.read(args.file))
    for path in _save_plots(found, args.output or args.file.parent, args.file.stem):
        _print(str(path))


def _asm(args: argparse.Namespace) -> None:
    from pagebench import asm, variants
    from pagebench.probes import PROBES
    from pagebench.report import listing

    if args.probe not in PROBES:
        raise variants.nearest(args.probe, PROBES, "probe")
    objects = [one for name, tree in args.kernel for one in variants.of_tree(name, tree, args.kernel_cc)[0]]
    table = {one.name: variants.load(one) for one in objects} or dict(variants.known())
    if args.variant:
        table = {args.variant: variants.find(args.variant) if not objects else _pick(args.variant, table)}
    listings = {name: asm.analyse(variant.probes[args.probe]) for name, variant in table.items()}
    for name, variant in table.items():
        _print(listing.render(variant, args.probe, listings[name]))
    if len(args.kernel) == 2 and not args.variant:
        before, after = (table[name] for name, _ in args.kernel)
        _print(listing.side_by_side((before, listings[before.name]), (after, listings[after.name])))


def _pick(name: str, table: Mapping[str, Variant]) -> Variant:
    from pagebench import variants

    if name not in table:
        raise variants.nearest(name, table, "variant of these trees")
    return table[name]


def _align(args: argparse.Namespace) -> None:
    import json

    from pagebench import alignment, variants
    from pagebench.report import align
    from pagebench.units import format_size, parse_size

    pages = {format_size(page.bytes): page for page in alignment.BASE_PAGES}
    sizes = {str(size): size for size in alignment.STRUCT_PAGES}
    chosen_pages = dict.fromkeys(format_size(parse_size(text)) for text in args.base_page or pages)
    chosen_sizes = dict.fromkeys(args.struct_page or sizes)
    for name in chosen_pages:
        if name not in pages:
            raise variants.nearest(name, pages, "base page")
    for name in chosen_sizes:
        if name not in sizes:
            raise variants.nearest(name, sizes, "struct page")
    proofs = alignment.prove(
        [pages[name] for name in chosen_pages], [sizes[name] for name in chosen_sizes], args.max_order
    )
    as_json = args.format == "json"
    _print(json.dumps(align.to_json(proofs), indent=1) if as_json else align.render(proofs))
    if not args.no_plots:
        try:
            plot = align.save(proofs, args.output)[0]
        except OSError as error:
            raise PagebenchError(
                f"cannot write plots to {args.output}: {error.strerror}; name another with -o, or --no-plots"
            ) from error
        print(f"plot: {plot} (and .svg)", file=sys.stderr if as_json else sys.stdout)
    if wrong := align.disagreements(proofs):
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise PagebenchError(f"a proof disagrees with the arithmetic: {wrong[0]}{more}", exit_code=1)


def _info(args: argparse.Namespace) -> None:
    import json

    from pagebench import kernel, machine
    from pagebench.report import info

    found = kernel.describe(), machine.describe(machine.default_cpu())
    _print(json.dumps(info.to_json(*found), indent=1) if args.format == "json" else info.render(*found))


def _list(args: argparse.Namespace) -> None:
    from pagebench.report import catalogue

    _print(catalogue.render())


COMMANDS = {
    "run": _run,
    "show": _show,
    "plot": _plot,
    "asm": _asm,
    "align": _align,
    "info": _info,
    "list": _list,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    try:
        args = parser().parse_args(argv)
        if args.version:
            from pagebench import tool

            _print(f"pagebench {__version__} ({tool.commit() or 'unknown commit'})")
        elif args.command is None:
            raise PagebenchError("name a command, as in `python -m pagebench run` (see --help)")
        else:
            COMMANDS[args.command](args)
    except PagebenchError as error:
        print(f"pagebench: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("pagebench: interrupted", file=sys.stderr)
        return 130
    return 0

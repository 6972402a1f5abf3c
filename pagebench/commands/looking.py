"""Commands that look at machine code, memory models, simulated caches, this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pagebench.commands.asked import asked_of, words_of
from pagebench.commands.output import save_plots, say_plots, write
from pagebench.errors import PagebenchError
from pagebench.report.formats import FORMATS

if TYPE_CHECKING:
    from pagebench.core import Variant


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
        written = save_plots("align", proven, args.output, "align", "-o, or --no-plots")
        say_plots(written, sys.stdout if args.format == "text" else sys.stderr)
    if wrong := disagreements(proven.proofs):
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise PagebenchError(f"a proof disagrees with the arithmetic: {wrong[0]}{more}", exit_code=1)


def cache(args: argparse.Namespace) -> None:
    """What the timed code does to simulated caches."""
    from pagebench.cache import asking
    from pagebench.measure import contenders

    asked = asked_of(args)
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
        written = save_plots("cache", behaviour, args.output, stem, "-o, or --no-plots")
        say_plots(written, sys.stdout if args.format == "text" else sys.stderr)


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

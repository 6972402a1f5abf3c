"""Kinds of words on the command line, and options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from pagebench import names
from pagebench.names import MAX_PFNS, PROBES
from pagebench.report.formats import FORMATS


def names_list(text: str) -> list[str]:
    """Names between commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError("an empty list or name: give names separated by commas")
    return words


def every(table: Iterable[object]) -> str:
    """Every name of a table, for a help text."""
    return ", ".join(map(str, table))


def orders(text: str) -> list[int]:
    """Folio orders between commas."""
    try:
        return [int(order) for order in names_list(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of orders: write it as 0,2,9") from None


def at_least(least: int) -> Callable[[str], int]:
    """A whole number, so large at least."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is too small: give {least} or more")
        return value

    return number


def window(text: str) -> tuple[int, int]:
    """A pfn and a count of pfns."""
    first, comma, count = text.partition(",")
    if not (comma and first.isdecimal() and count.isdecimal()) or not 0 < int(count) <= MAX_PFNS:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form PFN,COUNT, as in 1048576,131072")
    if int(first) >= MAX_PFNS:
        raise argparse.ArgumentTypeError(f"no machine has a pfn {first}")
    return int(first), int(count)


def margin(text: str) -> float:
    """Core cycles above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of core cycles above 0")
    return value


def named_path(text: str) -> tuple[str, Path]:
    """A name and a path."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=PATH")
    return name, Path(path)


def named_or_path(text: str) -> tuple[str, Path]:
    """A path with a name before it, or its own: the file's without what is behind the point."""
    name, equals, path = text.partition("=")
    if (equals and not (name and path)) or not name.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FILE")
    # A = of the path itself has a directory before it.
    if equals and "/" not in name:
        return name, Path(path)
    return Path(text).stem, Path(text)


def named_tree(text: str) -> tuple[str, Path]:
    """A tree with a name before it, or just ``tree``."""
    name, equals, _ = text.partition("=")
    return named_path(text) if equals and "/" not in name else ("tree", Path(text))


def add_kernel_options(command: argparse.ArgumentParser) -> None:
    """Kernel trees."""
    command.add_argument(
        "--kernel",
        action="append",
        default=[],
        type=named_path,
        metavar="NAME=TREE",
        help="the compound_head() of a configured kernel tree or header package; repeatable",
    )
    command.add_argument(
        "--kernel-cc", metavar="CC", help="compile kernel trees with this; default: as they were configured"
    )


def add_axes(command: argparse.ArgumentParser) -> None:
    """What is compared, over which pages."""
    command.add_argument(
        "--contenders",
        type=names_list,
        metavar="LIST",
        help="variant[@layout[:backing]],…; the first is the reference; "
        f"layouts: {every(names.LAYOUTS)}; backings: {every(names.BACKINGS)}; variants: see `list`",
    )
    largest = names.MAX_FOLIO_ORDER
    command.add_argument(
        "--orders", type=orders, metavar="LIST", help=f"folio orders, 0 to {largest}, as in 0,2,4,9"
    )
    command.add_argument(
        "--footprints",
        type=names_list,
        metavar="LIST",
        help=f"sizes as 16K,256K,… or levels: {every(names.LEVELS)}",
    )
    patterns = (
        f"{name}[:{row.takes.upper()}]" if row.takes else name for name, row in names.PATTERNS.items()
    )
    command.add_argument("--patterns", type=names_list, metavar="LIST", help=every(patterns))
    command.add_argument("--probes", type=names_list, metavar="LIST", help=every(PROBES))


def add_folios(command: argparse.ArgumentParser) -> None:
    """A capture that memmaps are made of."""
    command.add_argument(
        "--folios",
        type=Path,
        metavar="FILE",
        help="memmaps of the folios that `capture` found on a machine, windows of it as large as footprints",
    )


def add_variants(command: argparse.ArgumentParser) -> None:
    """Struct pages, and variants from elsewhere."""
    command.add_argument(
        "--struct-page",
        dest="struct_page_bytes",
        type=at_least(names.STRUCT_PAGES.start),
        metavar="BYTES",
        help=f"sizeof(struct page): {every(names.BUILT_IN_STRUCT_PAGES)} are built in, "
        "others compiled when asked for",
    )
    add_kernel_options(command)
    command.add_argument(
        "--variant",
        dest="own",
        action="append",
        default=[],
        type=named_path,
        metavar="NAME=FILE.c",
        help="your own compound_head() and set_compound_head() over page.h; repeatable",
    )


def add_files(command: argparse.ArgumentParser) -> None:
    """Result files, each under a name."""
    command.add_argument(
        "files", nargs="+", type=named_or_path, metavar="[NAME=]FILE", help="named by their files by default"
    )


def add_format(command: argparse.ArgumentParser, subject: str) -> None:
    """The formats of a subject."""
    formats = tuple(FORMATS[subject])
    command.add_argument("--format", choices=formats, default=formats[0], help="default: %(default)s")


def add_plots(command: argparse.ArgumentParser) -> None:
    """Where plots go."""
    command.add_argument(
        "-o", "--output", type=Path, default=Path("pagebench-results"), metavar="DIR", help="of the plots"
    )
    command.add_argument("--no-plots", action="store_true", help="the report alone")

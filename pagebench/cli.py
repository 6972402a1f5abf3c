"""The command line: options in, words out.  Nothing is decided here.

The commands themselves are in commands/, kinds of words in arguments.py.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from pagebench import __version__, commands, subcommands
from pagebench.commands.bisecting import STOP
from pagebench.commands.output import write
from pagebench.errors import PagebenchError

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
  python -m pagebench compare old.jsonl new.jsonl --fail-above 0.2ns
      a gate: whether anything got slower by more than that

exit codes: 0 done; 1 a gate failed; 2 usage or input; 3 what was asked for
is not resolved; 4 a self-test failed; 130 interrupted (what was
measured is kept). bisect: 0 good, 1 bad, 125 cannot be told, 129 stop.
70 is a bug
"""


# As EX_SOFTWARE of sysexits.h.
BUG = 70


class Formatter(argparse.HelpFormatter):
    """argparse's, with names left whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """argparse, with errors as one line."""

    def __init__(self, formatter_class: Any = Formatter, **kwargs: Any) -> None:
        super().__init__(formatter_class=formatter_class, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what main() prints."""
        raise PagebenchError(f"{message} (see `{self.prog} --help`)")

    def print_help(self, file: Any = None) -> None:
        """To standard output, as everything else."""
        write(self.format_help())


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="pagebench",
        description="What compound_head() costs: pointer and mask encodings of tail pages, measured.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="the version and commit, and exit")
    added = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for add in (subcommands.measuring, subcommands.reading, subcommands.looking):
        add(added)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    try:
        args = parser().parse_args(argv)
        if args.version:
            from pagebench import tool

            write(f"pagebench {__version__} ({tool.commit() or 'unknown commit'})")
        elif args.command is None:
            raise PagebenchError("name a command, as in `python -m pagebench run` (see --help)")
        else:
            commands.COMMANDS[args.command](args)
    except PagebenchError as error:
        print(f"pagebench: {error}", file=sys.stderr)
        # What is typed wrong says nothing of a tree.
        bisecting = (sys.argv[1:] if argv is None else argv)[:1] in (["bisect"], ("bisect",))
        return STOP if bisecting and error.exit_code == 2 else error.exit_code
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("pagebench: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # 1, Python's own, would be a gate that failed
        traceback.print_exc()
        print(f"pagebench: this is a bug in pagebench: {error!r}", file=sys.stderr)
        return BUG
    return 0

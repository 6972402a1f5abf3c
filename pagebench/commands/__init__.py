"""What each command does with its options.

Imports are where they are needed, so that ``--help`` is quick.
"""

from pagebench.commands.bisecting import bisect
from pagebench.commands.looking import align, asm, cache, capture, info, list_
from pagebench.commands.measuring import run, selftest
from pagebench.commands.reading import compare, export, plot, report, show

COMMANDS = {
    "run": run,
    "selftest": selftest,
    "show": show,
    "plot": plot,
    "report": report,
    "compare": compare,
    "export": export,
    "bisect": bisect,
    "asm": asm,
    "align": align,
    "cache": cache,
    "info": info,
    "capture": capture,
    "list": list_,
}

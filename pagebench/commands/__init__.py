"""What each command does with its options.

Imports are where they are needed, so that ``--help`` is quick.
"""

from pagebench.commands.bisecting import bisect
from pagebench.commands.looking import align, asm, cache, capture, info, list_
from pagebench.commands.measuring import bundle, replay, run, selftest
from pagebench.commands.reading import compare, export, join, plot, report, show

COMMANDS = {
    "run": run,
    "selftest": selftest,
    "show": show,
    "plot": plot,
    "report": report,
    "compare": compare,
    "join": join,
    "export": export,
    "bisect": bisect,
    "bundle": bundle,
    "replay": replay,
    "asm": asm,
    "align": align,
    "cache": cache,
    "info": info,
    "capture": capture,
    "list": list_,
}

"""One repeat by pyperf, as its users write it; __main__.py reads the file that it leaves."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pyperf  # type: ignore[import-not-found]
from case import loops

runner = pyperf.Runner()
with ExitStack() as stack:
    for name, call in loops(int(os.environ["PEERS_FOOTPRINT"]), stack).items():
        runner.bench_func(name, call)

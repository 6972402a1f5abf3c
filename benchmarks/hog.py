"""A neighbour that takes the L3: streams through memory on another CPU until it is ended.

    python benchmarks/hog.py [MIB] &

For runs that have to hold where little L3 is to be had.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from pagebench.host import machine
from pagebench.names import LINE_BYTES
from pagebench.units import MIB


def main() -> None:
    """Write one word of every line, again and again."""
    size = (int(sys.argv[1]) if len(sys.argv) > 1 else 64) * MIB
    others = os.sched_getaffinity(0) - {machine.default_cpu()}
    if not others:
        sys.exit("there is no CPU beside the one that is measured on")
    os.sched_setaffinity(0, others)
    lines = np.ones(size // 8)[:: LINE_BYTES // 8]
    while True:
        lines += 1


if __name__ == "__main__":
    main()

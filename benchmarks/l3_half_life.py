"""How long an L3 keeps what nobody looks up: ns per lookup after a wait, by footprint.

python benchmarks/l3_half_life.py [CPU]
"""

from __future__ import annotations

import sys

import numpy as np

from pagebench import core
from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.units import MIB, format_size


def main() -> None:
    """A row for each footprint: right after passes over it, after waits, and flushed."""
    cpu = int(sys.argv[1]) if len(sys.argv) > 1 else machine.default_cpu()
    core.pin(cpu)
    clock, rng = core.Clock(), np.random.default_rng(0)
    l2_bytes = machine.describe(cpu).caches.l2_bytes or MIB
    print("ms idle ", *(f"{wait:6}" for wait in (0, *calibration.WAITS_MS)), " flushed  half-life, ms")
    for footprint in (l2_bytes << shift for shift in range(1, 5)):
        with calibration.chase_after(clock, footprint, rng) as chase:
            after = [chase(wait, calibration.PASSES) for wait in (0, *calibration.WAITS_MS)]
            _, flushed = chase(0, 0)
        found = calibration.half_life(after[0][1], flushed, after[1:])
        said = "-" if found is None else f"{found:.0f}"
        print(f"{format_size(footprint):8}", *(f"{ns:6.1f}" for _, ns in after), f"{flushed:8.1f}{said:>15}")


if __name__ == "__main__":
    main()

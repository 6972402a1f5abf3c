"""A run's samples for other tools: a value a process and cell, as Go benchmarks or as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from pagebench.results.measured import Measured
from pagebench.units import format_size

GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}


def to_gobench(measured: Measured) -> str:
    """What ``benchstat`` reads: a line a process and cell, medians over rounds.

    By the format of golang.org/design/14313-benchmark-format.  benchstat makes a table of its own for each
    set of the lines above, so that they say the CPU and nothing that changes from run to run.
    """
    machine = measured.run.header.machine
    lines = [
        "goos: linux",
        f"goarch: {GOARCH.get(machine.architecture, machine.architecture)}",
        "pkg: pagebench",
        f"cpu: {machine.cpu_model}",
    ]
    for place, (samples, position) in measured.at.items():
        size = format_size(place.footprint_bytes)
        exact = str(place.footprint_bytes) if "." in size else size  # rounded, and another one's as well
        axes = f"pattern={place.pattern}/order={place.order}/footprint={exact}"
        # -1 is GOMAXPROCS: a name may end in -7 itself.
        name = (
            f"Benchmark{place.probe.capitalize()}/{axes}/contender={place.contender.removesuffix('@plain')}-1"
        )
        cycles = samples.median_cycles(position)
        for line, ns, of_core in zip(samples.lines, samples.medians(position), cycles, strict=True):
            if np.isfinite(ns):
                lines.append(f"{name}\t{sum(line.lookups)}\t{ns:.7g} ns/op\t{of_core:.7g} cycles/op")
    return "\n".join(lines) + "\n"


def to_csv(measured: Measured) -> str:
    """A row a process and cell: medians over rounds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("process", *("probe", "pattern", "order", "footprint_bytes", "contender"), "ns", "cycles")
    )
    for place, (samples, position) in measured.at.items():
        values = zip(samples.lines, samples.medians(position), samples.median_cycles(position), strict=True)
        for line, ns, cycles in values:
            if not np.isfinite(ns):
                continue
            writer.writerow((line.process, *place, f"{ns:.7g}", f"{cycles:.7g}"))
    return out.getvalue()

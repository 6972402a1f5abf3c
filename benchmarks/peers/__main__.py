"""pagebench and its peers on the same probe functions and memmaps, in the same minutes.

    python benchmarks/peers [--repeats 8] [--seconds 1] [--footprints 16K,256K,2M]

Each measures A, A again and B (chains of pointer-select, the same, and of branchless; order 9) so often: the
95th percentile of |A/A|, whose truth is 0, and the spread of B - A, both in ns a lookup.  Peers take turns,
each with its users' defaults but for the time, `--seconds` for each of the three.  What is not installed is
left out, and says so: Google Benchmark (libbenchmark-dev), nanobench ($NANOBENCH, the directory of
nanobench.h), pyperf, pytest-benchmark.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from case import LOOKUPS

from pagebench import tool
from pagebench.host import machine
from pagebench.units import format_size, parse_size
from pagebench.variants import compiler

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
# Of each of ours, some 0.4 s for a process and its start.
OUR_PROCESS_S = 0.45

# One repeat: footprint and seconds for each loop to ns a lookup by name.
Repeat = Callable[[int, float, Path], Mapping[str, float]]


def run(command: list[str], footprint: int, **environment: str) -> str:
    """Standard output of a command pinned to the measuring CPU.  Raises CalledProcessError."""
    cpu = str(machine.default_cpu())
    told = {**os.environ, "PEERS_FOOTPRINT": str(footprint), **environment}
    done = subprocess.run(
        ["taskset", "-c", cpu, *command], env=told, check=True, capture_output=True, text=True
    )
    return done.stdout


def ours(footprint: int, seconds: float, scratch: Path) -> Mapping[str, float]:
    """A run of as many processes as fit into the time; its pair and its difference as A again and B."""
    file = scratch / f"{time.time_ns()}.jsonl"
    processes = max(6, round(3 * seconds / OUR_PROCESS_S))
    asked = f"run --contenders pointer-select,branchless --orders 9 --footprints {footprint} --probes chain"
    words = shlex.split(f"{asked} --processes {processes} --no-plots -o {file}")
    subprocess.run([sys.executable, "-m", "pagebench", *words], check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run(
        [sys.executable, "-m", "pagebench", "show", str(file), "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    summary = json.loads(shown.stdout)
    (noise,) = summary["noise"]
    (_, branchless) = summary["cells"]
    return {
        "A": 0.0,
        "A again": noise["difference"]["ns"]["estimate"],
        "B": branchless["difference"]["ns"]["estimate"],
    }


def by_pyperf(footprint: int, seconds: float, scratch: Path) -> Mapping[str, float]:
    """Five processes of a warm-up and three values each."""
    file = scratch / f"{time.time_ns()}.json"
    value_s = seconds / 5 / 4
    options = f"-p 5 -n 3 -w 1 --min-time {value_s} --inherit-environ PEERS_FOOTPRINT -q -o {file}"
    run([sys.executable, str(HERE / "by_pyperf.py"), *shlex.split(options)], footprint)
    found = {}
    for one in json.loads(file.read_text())["benchmarks"]:
        values = [value for process in one["runs"] for value in process.get("values", ())]
        found[one["metadata"]["name"]] = float(np.mean(values)) * 1e9 / LOOKUPS
    return found


def by_pytest(footprint: int, seconds: float, scratch: Path) -> Mapping[str, float]:
    """pytest-benchmark's calibrating mode; its mean."""
    file = scratch / f"{time.time_ns()}.json"
    options = f"-q -p no:cacheprovider --benchmark-max-time={seconds} --benchmark-json={file}"
    run([sys.executable, "-m", "pytest", str(HERE / "by_pytest.py"), *shlex.split(options)], footprint)
    rows = json.loads(file.read_text())["benchmarks"]
    return {row["params"]["name"]: row["stats"]["mean"] * 1e9 / LOOKUPS for row in rows}


def compiled(library: str, scratch: Path) -> Repeat:
    """A C++ program over the core's own sources.  Raises CalledProcessError where the library is missing."""
    cc = compiler.find()
    objects = []
    for name in ("pointer-select", "branchless"):
        objects.append(str(scratch / f"{name}.o"))
        source = CSRC / "variants" / f"{name}.c"
        compiler.compile_object(cc, compiler.variant_cflags(cc), source, Path(objects[-1]))
    for name in ("memmap", "variants"):
        objects.append(str(scratch / f"{name}.o"))
        defines = ['-DPB_CFLAGS=""', '-DPB_BUILT_COMMIT=""']
        source = CSRC / f"{name}.c"
        subprocess.run([*cc, "-O2", "-std=gnu11", *defines, "-c", source, "-o", objects[-1]], check=True)
    program = str(scratch / library)
    includes = ["-I", str(CSRC), "-I", os.environ.get("NANOBENCH", ".")]
    libraries = ["-lbenchmark", "-lpthread"] if library == "GOOGLE" else []
    command = ["c++", "-O2", "-std=c++17", f"-D{library}", *includes, str(HERE / "compiled.cc"), *objects]
    subprocess.run([*command, *libraries, "-o", program], check=True, capture_output=True)

    def repeat(footprint: int, seconds: float, _: Path) -> Mapping[str, float]:
        said = run([program, str(footprint), str(seconds)], footprint)
        if library == "GOOGLE":
            rows = json.loads(said)["benchmarks"]
            # A name may have "/min_time:..." behind it.
            return {row["name"].partition("/")[0]: row["real_time"] / LOOKUPS for row in rows}
        pairs = (line.rpartition(" ") for line in said.splitlines())
        return {name: float(ns) for name, _, ns in pairs}

    return repeat


def why(error: Exception) -> str:
    """A failed command's first error, or that there was none."""
    said = getattr(error, "stderr", None) or b""
    lines = (said.decode(errors="replace") if isinstance(said, bytes) else said).splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else str(error))


def peers(scratch: Path) -> dict[str, Repeat]:
    """What is installed."""
    found: dict[str, Repeat] = {"pagebench": ours}
    for name, library in (("nanobench", "NANOBENCH"), ("Google Benchmark", "GOOGLE")):
        try:
            found[name] = compiled(library, scratch)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{name}: left out ({why(error)})", file=sys.stderr)
    for name, package, repeat in (
        ("pyperf", "pyperf", by_pyperf),
        ("pytest-benchmark", "pytest_benchmark", by_pytest),
    ):
        if importlib.util.find_spec(package):
            found[name] = repeat
        else:
            print(f"{name}: not installed, left out", file=sys.stderr)
    return found


def table(measured: Mapping[str, Mapping[int, list[tuple[float, float, float]]]]) -> str:
    """Markdown: for each peer and footprint |A/A| p95, the spread of B - A and the seconds of a repeat."""
    sizes = list(next(iter(measured.values())))
    heads = [f"{format_size(size)}: \\|A/A\\| p95 | B - A, spread | s" for size in sizes]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + 3 * len(sizes)) + "|"]
    for name, by_size in measured.items():
        cells = []
        for repeats in by_size.values():
            if not repeats:
                cells.append("- | - | -")
                continue
            pair, difference, seconds = np.array(repeats).T
            p95 = np.quantile(np.abs(pair), 0.95)
            spread = f"{np.median(difference):+.3f}, {np.ptp(difference):.2g}"
            cells.append(f"{p95:.2g} | {spread} | {np.mean(seconds):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure in turns, and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks/peers", description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--footprints", default="16K,256K,2M")
    args = parser.parse_args()
    sizes = [parse_size(text) for text in args.footprints.split(",")]
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        installed = peers(scratch)
        measured: dict[str, dict[int, list[tuple[float, float, float]]]] = {
            name: {size: [] for size in sizes} for name in installed
        }
        for _ in range(args.repeats):
            for size in sizes:
                for name, repeat in installed.items():
                    before = time.perf_counter()
                    try:
                        ns = repeat(size, args.seconds, scratch)
                    except subprocess.CalledProcessError as error:
                        print(f"{name}: a repeat failed ({why(error)})", file=sys.stderr)
                        continue
                    took = time.perf_counter() - before
                    measured[name][size].append((ns["A again"] - ns["A"], ns["B"] - ns["A"], took))
    described = machine.describe(machine.default_cpu())
    print(f"{described.cpu_model}, pagebench {tool.commit()}, {args.repeats} repeats\n")
    print(table(measured))


if __name__ == "__main__":
    main()

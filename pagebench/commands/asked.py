"""What a command line asks of a plan, and the words that ask it again."""

from __future__ import annotations

import argparse
from typing import Any

# What `run` asks of a plan: fields of options.Options, and the options that set
# them.  The seed is added by the run itself, the CPU is the machine's matter.
ASKED = {
    "extent": "",
    "preset": "--preset",
    "contenders": "--contenders",
    "orders": "--orders",
    "footprints": "--footprints",
    "patterns": "--patterns",
    "probes": "--probes",
    "struct_page_bytes": "--struct-page",
    "memory_model": "--memory-model",
    "rounds": "--rounds",
    "processes": "--processes",
    "margin_cycles": "--margin",
    "seed": "--seed",
    "cpu": "--cpu",
    "resolve": "--resolve",
    "at_most": "--at-most",
    "folios": "--folios",
}


def asked_of(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of a plan."""
    from pagebench.plan import machine_folios

    asked = {name: value for name in ASKED if (value := getattr(args, name, None)) is not None}
    if "folios" in asked:
        asked["folios"] = machine_folios.of(asked["folios"])
    return asked


def words_of(asked: dict[str, object]) -> list[str]:
    """Options as they are typed, from the fields that they set."""
    words: list[str] = []
    for name, value in asked.items():
        if name == "extent":
            words.append(f"--{value}")
        else:
            words += [ASKED[name], ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def run_words(args: argparse.Namespace, asked: dict[str, Any]) -> list[str]:
    """The words of a `run` of kernel trees, without what is of one run: seed and CPU."""
    words = ["run", *words_of({name: value for name, value in asked.items() if name not in ("seed", "cpu")})]
    words += [word for name, path in args.kernel for word in ("--kernel", f"{name}={path}")]
    return [*words, *(["--kernel-cc", args.kernel_cc] if args.kernel_cc else [])]

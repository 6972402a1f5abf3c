"""``git bisect run python -m pagebench bisect``: whether a tree is good, bad, or cannot be told."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pagebench.commands.asked import asked_of, run_words
from pagebench.commands.output import write
from pagebench.errors import PagebenchError
from pagebench.report.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagebench.code.expectation import Expected
    from pagebench.code.listing import Listing
    from pagebench.core import Variant
    from pagebench.results.gate import Threshold

# As git-bisect(1) reads exit codes: from 1 on all are bad but 125, and above 127 it stops.
BAD, CANNOT_TELL, STOP = 1, 125, 129


def bisect(args: argparse.Namespace) -> None:
    """Whether the last tree is as expected, or not slower than the first one.

    What is neither good nor bad stops the bisection: git would take 2 for bad, and a traceback's 1.
    """
    try:
        _bisect(args)
    except PagebenchError as error:
        if error.exit_code == 2:
            error.exit_code = STOP
        raise
    except Exception as error:
        traceback.print_exc()
        raise PagebenchError(f"this is a bug, the bisection stops: {error!r}", STOP) from error


def _bisect(args: argparse.Namespace) -> None:
    from pagebench import names as vocabulary
    from pagebench.code import expectation
    from pagebench.results.gate import Threshold

    names = [name for name, _ in args.kernel]
    if len(set(names)) < len(names):
        raise PagebenchError(f"two trees are named {names[0]}: name them apart, as in good=../good here=.")
    if args.probe not in vocabulary.PROBES:
        raise vocabulary.nearest(args.probe, vocabulary.PROBES, "probe")
    if args.expect is not None:
        expected = expectation.parse(args.expect)
        if len(names) != 1:
            raise PagebenchError("--expect looks at one tree: give --kernel once")
        _expect(args, expected)
        return
    threshold = Threshold.parse(args.fail_above)
    if len(names) != 2:
        raise PagebenchError(
            "--fail-above compares two trees: give --kernel twice, a good one that stays as it is first"
        )
    _compare(args, threshold)


def _built(args: argparse.Namespace, name: str, tree: Path) -> tuple[Variant, Listing]:
    """A tree's variant, and what its loop is; CANNOT_TELL where it does not build, or has no known form."""
    from pagebench.code import form
    from pagebench.variants import cache, compiled, compiler, registry

    if not (tree / "Makefile").is_file():
        raise PagebenchError(f"{tree} is no kernel tree: it has no Makefile")
    if not compiled.NAME.fullmatch(name) or len(name) > compiled.NAME_LENGTH:
        raise PagebenchError(f"a kernel cannot be named {name!r}: take letters, digits and any of - _ . +")
    if args.kernel_cc is not None:
        try:
            compiler.find(args.kernel_cc)
        except compiler.CompilerError as error:
            raise PagebenchError(str(error).replace("--cc", "--kernel-cc")) from error
    cache.directory()
    try:
        variant = registry.load(registry.of_tree(name, tree, args.kernel_cc)[0][0])
        return variant, form.analyse(variant.probes[args.probe])
    except PagebenchError as error:
        raise PagebenchError(f"cannot tell: {error}", CANNOT_TELL) from error


def _expect(args: argparse.Namespace, expected: Sequence[Expected]) -> None:
    from pagebench.code import expectation

    ((name, tree),) = args.kernel
    variant, listing = _built(args, name, tree)
    found = f"{name} ({variant.version}), probe {args.probe}: {expectation.found(listing)}"
    wrong = [str(one) for one in expected if not one.holds(listing)]
    if wrong:
        raise PagebenchError(f"bad: {found}; expected {','.join(wrong)}", BAD)
    write(f"good: {found}")


def _output(asked: Path | None) -> Path | None:
    """A file of its own for each step: its number before the ending."""
    if asked is None or not asked.exists():
        return asked
    numbered = (asked.with_name(f"{asked.stem}-{i}{asked.suffix}") for i in range(2, 10_000))
    return next((path for path in numbered if not path.exists()), asked)


def _compare(args: argparse.Namespace, threshold: Threshold) -> None:
    from pagebench.measure import contenders, session
    from pagebench.results import gate, result_file, summarise

    (good, good_tree), (here, tree) = args.kernel
    try:
        _built(args, good, good_tree)
    except PagebenchError as error:
        raise PagebenchError(f"without the good tree nothing can be told: {error}") from error
    _built(args, here, tree)
    asked = {"extent": "quick", "contenders": [good, here], **asked_of(args)}
    words = run_words(args, asked)
    trees = contenders.Outside(kernels=args.kernel, kernel_cc=args.kernel_cc)
    # The tree that is bisected is where this runs: nothing is left in it.
    with tempfile.TemporaryDirectory(prefix="pagebench-") as scratch:
        path = session.start(asked, trees, _output(args.output) or Path(scratch, "bisect.jsonl"), words)
        summary = summarise.summarise(result_file.read(path))
    with contextlib.suppress(BrokenPipeError):  # git wants to know all the same
        write(FORMATS["run"]["text"](summary))
    outcomes = gate.judge_within(threshold, summary)
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("passed", "failed", "undecided"))
    text = f"is {here} slower than {good} by more than {args.fail_above}? {counts}"
    if summary.control is None or not summary.control.trusted:
        raise PagebenchError(f"cannot tell: the positive control is off; {text}", CANNOT_TELL)
    if "failed" in outcomes:
        raise PagebenchError(f"bad: {text}", BAD)
    if not outcomes or "undecided" in outcomes:
        raise PagebenchError(f"cannot tell: {text}", CANNOT_TELL)
    write(f"\ngood: {text}")

"""Every module has the tests that bear its name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = [
    path.relative_to(ROOT)
    for path in (ROOT / "build.py", *sorted((ROOT / "pagebench").rglob("*.py")))
    if not path.name.startswith("__")
]
STEMS = Counter(module.stem for module in MODULES)
# Why a module has none.
UNTESTED = {
    "pagebench/arguments.py": "kinds of words on the command line: test_cli.py types them",
    "pagebench/subcommands.py": "options: test_cli.py and test_commands.py type them",
    "pagebench/report/compare_export.py": "test_compare.py has every format",
    **{
        f"pagebench/commands/{name}.py": "test_commands.py runs them"
        for name in ("asked", "looking", "measuring", "output", "reading")
    },
    "pagebench/results/change.py": "fields alone: test_changing.py has what they hold",
    "pagebench/cache/cpus.py": "a table: test_geometry.py holds every row to what can be simulated",
    "pagebench/code/emitters.py": "a half of recording.py each: test_recording.py, test_recording_aarch64.py",
    "pagebench/results/explanation.py": "fields, and sums of them: test_explaining.py has what they hold",
    "pagebench/code/listing.py": "fields alone: test_form.py has what form.py puts into them",
    "pagebench/variants/loaded.py": "fields alone: test_registry.py has where they come from",
}
# What is tested that is no module.
OTHERS = {
    "test_tracking.py": "benchmarks/conftest.py, and README's way to track regressions",
    "test_commands.py": "pagebench/commands/",
    "test_core.py": "the C core, by tests/core.c",
    "test_docs.py": "README and docs/",
    "test_house.py": "this one",
    "test_recording_aarch64.py": "pagebench/code/recording.py's other half, under qemu",
}


def file_for(module: Path) -> str:
    """test_<module>.py; with its room in front where other modules are called the same."""
    room = f"{module.parent.name}_" if STEMS[module.stem] > 1 and module.parent.name else ""
    return f"test_{room}{module.stem}.py"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_tests_or_a_reason(module: Path) -> None:
    exists = (ROOT / "tests" / file_for(module)).is_file()
    if str(module) in UNTESTED:
        assert not exists, f"{module} has {file_for(module)}: take it out of UNTESTED"
    else:
        assert exists, f"{module} has no tests/{file_for(module)}: write it, or say in UNTESTED why not"


def test_every_reason_is_a_modules() -> None:
    assert set(UNTESTED) <= set(map(str, MODULES))


def test_every_test_file_is_a_modules() -> None:
    files = {path.name for path in (ROOT / "tests").glob("test_*.py")}
    assert files == {file_for(module) for module in MODULES if str(module) not in UNTESTED} | set(OTHERS)

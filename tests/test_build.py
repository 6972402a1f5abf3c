"""What is shipped: wheel, sdist and editable install; and what is said where there is no extension."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import cffi
import numpy as np
import pytest
import summaries

import pagebench
from pagebench.report import text
from pagebench.results import result_file, summarise
from pagebench.variants import compiler

ROOT = Path(__file__).resolve().parent.parent
NAME = f"pagebench-{pagebench.__version__}"
GUARD = "build with `pyproject-build` or `pip install -e .`"

# What an installed pagebench says of itself, run far from the checkout.
ASK = """
import json, sys, pagebench._core
from pagebench import core
from pagebench.variants import compiler
variants = sorted(core.built_in_variants())
json.dump([core.__file__, pagebench._core.__file__, str(compiler.sources()), variants], sys.stdout)
"""


def run(argv: Sequence[str | Path], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run with no other Python's modules in the way."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        argv, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False
    )


def checked(argv: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    done = run(argv, cwd, **environment)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def python(arguments: Sequence[str], cwd: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run Python over these directories and pagebench's dependencies.

    Without site, whose .pth files would bring in an editable install of the checkout.
    """
    dependencies = [Path(module.__file__).parent.parent for module in (np, cffi)]
    path = os.pathsep.join(map(str, [*paths, *dependencies]))
    return run([sys.executable, "-S", *arguments], cwd, PYTHONPATH=path)


def ask(cwd: Path, path: Path, before: str = "") -> tuple[Path, Path, Path, list[str]]:
    """Where a pagebench's core, extension and sources are, and its variants."""
    done = python(["-c", before + ASK], cwd, path)
    assert not done.returncode, done.stderr
    core, extension, sources, variants = json.loads(done.stdout)
    return Path(core), Path(extension), Path(sources), variants


def has_build_tools() -> bool:
    """What [build-system] requires is here, so that nothing need be fetched."""
    try:
        setuptools = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        return False
    return int(setuptools.split(".")[0]) >= 77 and importlib.util.find_spec("cffi") is not None


def build(kind: str, source: Path, output: Path) -> Path:
    """Build a "wheel" or an "sdist" of a source tree into a directory."""
    program = shutil.which("pyproject-build", path=str(Path(sys.executable).parent)) or shutil.which(
        "pyproject-build"
    )
    if not program:
        pytest.skip("no pyproject-build here: pip install -e '.[test]'")
    isolation = ["--no-isolation"] if has_build_tools() else []
    checked([program, *isolation, f"--{kind}", "--outdir", output, source], output)
    (built,) = output.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def tracked() -> list[str]:
    """The files of the checkout, those that are yet to be committed among them."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the sources is not known")
    listed = checked(["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"], ROOT)
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_tree(to: Path) -> Path:
    """A clean copy of the checkout: no extension, nothing ever built in it."""
    for name in tracked():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree, tmp_path_factory.mktemp("sdist"))


def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def expected_files(tree: Path) -> set[str]:
    """What a wheel of the tree holds, but for its dist-info."""
    modules = {str(file.relative_to(tree)) for file in (tree / "pagebench").rglob("*.py")}
    sources = {f"pagebench/{file.relative_to(tree)}" for file in (tree / "csrc").rglob("*.[ch]")}
    page = {str(file.relative_to(tree)) for file in (tree / "pagebench/report/page").iterdir()}
    return modules | sources | page | {"pagebench/_core.abi3.so"}


@pytest.mark.slow
def test_the_wheel_is_for_every_python_from_311_on(wheel: Path) -> None:
    assert re.fullmatch(rf"{NAME}-cp311-abi3-\w*linux\w*_{platform.machine()}\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        tags = re.findall(r"^Tag: (.*)$", archive.read(f"{NAME}.dist-info/WHEEL").decode(), re.MULTILINE)
    assert tags
    assert all(tag.startswith("cp311-abi3-") for tag in tags)


@pytest.mark.slow
def test_the_wheel_holds_modules_sources_and_licence(tree: Path, wheel: Path) -> None:
    files = wheel_files(wheel)
    info = {name for name in files if name.startswith(f"{NAME}.dist-info/")}
    assert files - info == expected_files(tree)
    assert {"pagebench/csrc/page.h", "pagebench/csrc/variants/mask.c"} < files
    assert f"{NAME}.dist-info/licenses/LICENSE" in info
    assert not [name for name in files if re.search(r"(^|/)tests?[_/]", name)]


@pytest.mark.slow
def test_an_installed_wheel_works_anywhere(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    checked([*pip, "--target", target, wheel], elsewhere)
    core, extension, sources, variants = ask(elsewhere, target)
    assert core == target / "pagebench" / "core" / "__init__.py"
    assert extension == target / "pagebench" / "_core.abi3.so"
    assert sources == target / "pagebench" / "csrc"
    assert (sources / "variant.h").is_file()
    assert variants == sorted(file.stem for file in (ROOT / "csrc" / "variants").glob("*.c"))


@pytest.mark.slow
def test_an_editable_install_finds_extension_and_sources(tmp_path: Path) -> None:
    source, prefix = copy_tree(tmp_path / "source"), tmp_path / "prefix"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-installed"]
    isolation = ["--no-build-isolation"] if has_build_tools() else []
    checked([*pip, *isolation, "--prefix", prefix, "--editable", source], tmp_path)
    (site,) = {file.parent for file in prefix.rglob("__editable__*.pth")}
    core, extension, sources, variants = ask(tmp_path, site, f"import site; site.addsitedir({str(site)!r})\n")
    assert core == source / "pagebench" / "core" / "__init__.py"
    assert extension == source / "pagebench" / "_core.abi3.so"
    assert sources == source / "csrc"
    assert "mask" in variants


@pytest.mark.slow
def test_the_sdist_holds_all_that_a_build_needs(tree: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {"LICENSE", "README.md", "build.py", "pyproject.toml"} < files
    assert {str(file.relative_to(tree)) for file in (tree / "csrc").rglob("*.[ch]")} < files
    assert not [name for name in files if name.endswith((".so", ".o"))]


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    output = tmp_path / "wheel"
    output.mkdir()
    again = build("wheel", tmp_path / "unpacked" / NAME, output)
    assert again.name == wheel.name
    assert wheel_files(again) == wheel_files(wheel)


def test_no_source_is_named_twice() -> None:
    """build.py finds them: a new variant is its file alone."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        (extension,) = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    assert (extension["sources"], "depends" in extension) == ([], False)


@pytest.mark.parametrize("argv", [["build.py"], ["-m", "build"]], ids=" ".join)
def test_build_py_is_not_to_be_run(argv: list[str], tree: Path) -> None:
    """PyPA's build is shadowed by it at the root of the checkout."""
    done = run([sys.executable, *argv], tree)
    assert done.returncode == 1
    assert done.stdout == ""
    assert GUARD in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def without_extension(tmp_path: Path) -> Path:
    """A directory with pagebench's modules in it and nothing else."""
    for file in (ROOT / "pagebench").rglob("*.py"):
        to = tmp_path / file.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, to)
    return tmp_path


def test_without_extension_there_is_one_line_and_code_2(without_extension: Path) -> None:
    done = python(["-m", "pagebench", "list"], without_extension)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no compiled core: install it with `pip install -e .`" in done.stderr


def test_without_extension_importing_the_core_says_so(without_extension: Path) -> None:
    code = "import pagebench, pagebench.errors\ntry: import pagebench.core\n"
    code += "except pagebench.errors.PagebenchError as error: print(error.exit_code, error)"
    done = python(["-c", code], without_extension, without_extension)
    assert re.fullmatch(
        r"2 this copy of pagebench has no compiled core: .*`pip install -e \.`.*\n", done.stdout
    )


def test_sources_are_beside_the_package_or_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiler.sources().joinpath("pagebench.h").is_file()
    package = tmp_path / "pagebench"
    package.mkdir()
    monkeypatch.setattr(compiler, "__file__", str(package / "variants" / "compiler.py"))
    with pytest.raises(compiler.CompilerError, match="sources are not beside"):
        compiler.sources()
    (tmp_path / "csrc").mkdir()
    assert compiler.sources() == tmp_path / "csrc"
    (package / "csrc").mkdir()
    assert compiler.sources() == package / "csrc"


@pytest.mark.slow
def test_without_extension_results_are_read_judged_and_drawn(without_extension: Path, tmp_path: Path) -> None:
    """Another architecture, a CI job that only reports."""
    plan = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"], control=True)])
    result = summaries.file_of(tmp_path / "r.jsonl", plan, summaries.made_up)
    shown, printed, drawn = (
        python(["-m", "pagebench", *arguments], without_extension)
        for arguments in (
            ["show", str(result)],
            ["show", str(result), "--format", "json"],
            ["plot", str(result), "-o", str(tmp_path / "plots")],
        )
    )
    run = result_file.read(result)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == text.render(summarise.summarise(run))
    assert (printed.returncode, json.loads(printed.stdout)) == (0, summaries.as_json(run))
    assert drawn.returncode == 0 and (tmp_path / "plots" / "r-differences-chain-random.png").is_file()

"""What kind of kernel tree is there, and what a broken one lacks."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from planted import plant

from pagebench.errors import PagebenchError
from pagebench.variants import compiled
from pagebench.variants.kernel.tree import GENERATED, Tree, examine


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of a configured tree for x86-64 as is looked at, on such a machine."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    generated = {f"include/generated/{header}": "" for header in GENERATED}
    return plant(
        tmp_path / "linux",
        generated
        | {
            ".config": "# Linux/x86 6.12 Kernel Configuration\nCONFIG_X86_64=y\nCONFIG_SLS=y\nCONFIG_SMP=m\n",
            "include/generated/utsrelease.h": '#define UTS_RELEASE "6.12.1-planted"\n',
            "include/linux/mm.h": "",
        },
    )


def test_a_module_directorys_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "build").symlink_to(tree)
    assert examine("k", tmp_path / "build").path == tree.resolve()


@pytest.mark.parametrize("header", GENERATED)
def test_missing_generated_headers(header: str, tree: Path) -> None:
    (tree / "include/generated" / header).unlink()
    with pytest.raises(PagebenchError, match=rf"no include/generated/{header}: run `make modules_prepare`"):
        examine("k", tree)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("# Linux/arm64 6.12 Kernel Configuration\nCONFIG_ARM64=y\n", "configured for aarch64"),
        ("# Linux/riscv 6.12 Kernel Configuration\nCONFIG_RISCV=y\n", "configured for riscv"),
        (
            "# Linux/x86 6.12 Kernel Configuration\nCONFIG_X86_32=y\n",
            "configured for x86 without 64 bits",
        ),
        ("", "configured for an unknown architecture"),
    ],
)
def test_another_architecture(config: str, named: str, tree: Path) -> None:
    (tree / ".config").write_text(config)
    with pytest.raises(PagebenchError, match=f"{named}, and this machine is x86_64"):
        examine("k", tree)


def test_no_tree_at_all(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="is no kernel tree"):
        examine("k", tmp_path)
    with pytest.raises(PagebenchError, match="is not there"):
        examine("k", tmp_path / "none")


def test_sources_that_are_not_there(tree: Path) -> None:
    (tree / "include/linux/mm.h").unlink()
    (tree / "Makefile").write_text("include /usr/src/linux-headers-0.0.0-common/Makefile\n")
    with pytest.raises(PagebenchError, match=r"sources in /usr/src/linux-headers-0.0.0-common"):
        examine("k", tree)


def test_not_configured(tree: Path) -> None:
    (tree / ".config").unlink()
    with pytest.raises(PagebenchError, match="is not configured"):
        examine("k", tree)


@pytest.mark.parametrize("name", ["", "a@b", "a b", "a:b", "old+key", "x" * (compiled.NAME_LENGTH + 1)])
def test_names_that_options_cannot_spell(name: str, tree: Path) -> None:
    with pytest.raises(PagebenchError, match="a kernel cannot be named"):
        examine(name, tree)


def test_what_is_said_of_a_tree(tree: Path) -> None:
    assert examine("k", tree) == Tree(
        name="k",
        path=tree,
        source=tree,
        release="6.12.1-planted",
        architecture="x86_64",
        arch="x86",
        config=frozenset({"X86_64", "SLS"}),
        config_cc="gcc",
    )


@pytest.mark.parametrize(
    ("lines", "cc"),
    [
        ('CONFIG_CC_VERSION_TEXT="sh (a test) 12.2"\n', "sh"),
        ('CONFIG_CC_VERSION_TEXT="no-such-cc 12.2"\n', "gcc"),
        ('CONFIG_CC_VERSION_TEXT="no-such-clang 19"\nCONFIG_CC_IS_CLANG=y\n', "clang"),
    ],
)
def test_the_compiler_is_the_configurations_where_it_is_here(lines: str, cc: str, tree: Path) -> None:
    with (tree / ".config").open("a") as file:
        file.write(lines)
    assert examine("k", tree).config_cc == cc


def test_the_sources_of_an_output_directory(tree: Path, tmp_path: Path) -> None:
    """By what its Makefile includes, beside it where both were moved, and by the link of older kernels."""
    source = tmp_path / "source of it"
    (source / "include").mkdir(parents=True)
    (tree / "include/linux").rename(source / "include/linux")
    for makefile in (f"include {source}/Makefile\n", f"include /gone/{source.name}/Makefile\n"):
        (tree / "Makefile").write_text(f"# Automatically generated\nexport KBUILD_OUTPUT = .\n{makefile}")
        assert examine("k", tree).source == source
    (tree / "Makefile").write_text("# Older than v4.20\n")
    (tree / "source").symlink_to(source)
    assert examine("k", tree).source == source


def test_text_of_another_encoding(tree: Path) -> None:
    for name in (".config", "Makefile", "include/generated/utsrelease.h"):
        with (tree / name).open("ab") as file:
            file.write(b"# \xff\n")
    assert examine("k", tree).release == "6.12.1-planted"


def test_a_path_that_cannot_be_looked_at() -> None:
    with pytest.raises(PagebenchError, match=r"cannot read the kernel tree x+ \(k\): File name too long"):
        examine("k", Path("x" * 5000))

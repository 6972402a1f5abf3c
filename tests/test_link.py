"""Linking a kernel's code: with the stubs that it needs, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_trees import altered, with_trees

from pagebench.errors import PagebenchError
from pagebench.variants import compiler
from pagebench.variants.kernel import build, link

pytestmark = pytest.mark.usefixtures("own_cache")


def test_what_every_kernel_wants_has_a_stub() -> None:
    text = link._stubs(["__fentry__", "__start___jump_table", *link.KEYS, "_GLOBAL_OFFSET_TABLE_"])
    assert text.count("__fentry__: ret") == 1
    assert all(f" {key}[8];" in text for key in link.KEYS)
    assert "_GLOBAL_OFFSET_TABLE_" not in text and "__start_" not in text


@pytest.mark.parametrize(
    ("symbol", "option"),
    [
        ("__asan_load8_noabort", "CONFIG_KASAN"),
        ("__stack_chk_fail", "CONFIG_STACKPROTECTOR"),
        ("lock_acquire", "CONFIG_PROVE_LOCKING"),
        ("mcount", "CONFIG_FUNCTION_TRACER"),
        ("schedule", "which option brings it is not known"),
    ],
)
def test_what_only_a_running_kernel_has_is_named_with_its_option(symbol: str, option: str) -> None:
    with pytest.raises(compiler.CompilerError, match=rf"only a running kernel has: {symbol} \({option}\);"):
        link._stubs(["__fentry__", symbol])


@pytest.mark.slow
@with_trees
def test_instrumented_trees_name_symbol_and_option(tmp_path: Path, no_kbuild: None) -> None:
    tree = altered(tmp_path, "v6.12")
    with (tree / ".config").open("a") as file:
        file.write("CONFIG_KASAN_GENERIC=y\nCONFIG_KCOV_INSTRUMENT_ALL=y\n")
    with pytest.raises(PagebenchError) as error:
        build.build("k", tree)
    assert "__asan_load8_noabort (CONFIG_KASAN)" in str(error.value)
    assert "__sanitizer_cov_trace_pc (CONFIG_KCOV)" in str(error.value)
    assert "all it said: " in str(error.value)

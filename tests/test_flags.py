"""The flags of a kernel whose kbuild does not run here."""

from __future__ import annotations

import pytest

from pagebench.architecture import ARCHITECTURES
from pagebench.variants.kernel.flags import CONFIGURED, OPTIONAL, OURS, flags

NONE: frozenset[str] = frozenset()


def test_ours_then_the_architectures_then_the_configurations() -> None:
    words = flags("x86", frozenset({"CC_OPTIMIZE_FOR_SIZE", "FRAME_POINTER", "SMP"}))
    of_architecture = ARCHITECTURES["x86_64"].kernel_cflags.split()
    expected = [*OURS, *OPTIONAL, *of_architecture]
    # In the order of the table, whatever the order of the options.
    expected += ["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    assert [word for word in words if word not in ("-Os", "-mtune=generic")] == expected
    assert words[-1] == "-mtune=generic" and "-Os" in words and "-O2" not in words


@pytest.mark.parametrize("option", CONFIGURED)
def test_an_option_adds_what_it_stands_for(option: str) -> None:
    without, words = flags("x86", NONE), flags("x86", frozenset({option}))
    added = [word for word in words if word not in without]
    assert added == CONFIGURED[option].split()


def test_code_for_one_cpu_is_tuned_for_no_other() -> None:
    assert "-mtune=generic" in flags("x86", NONE)
    for option in ("X86_NATIVE_CPU", "MK8", "MCORE2", "MATOM"):
        assert "-mtune=generic" not in flags("x86", frozenset({option}))


def test_an_architecture_whose_flags_are_not_known_has_none() -> None:
    unknown = [one.directory for one in ARCHITECTURES.values() if not one.kernel_cflags]
    for directory in [*unknown, "riscv"]:
        with pytest.raises(KeyError):
            flags(directory, NONE)

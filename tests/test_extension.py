"""The extension: what turns C's values into Python's, and what is said where it was never built."""

from __future__ import annotations

import errno
import subprocess
import sys

import numpy as np
import pytest

from pagebench.core.extension import address, array, check, ffi, pointer, string


def test_addresses_are_integers() -> None:
    assert address(pointer(0x1000)) == 0x1000
    assert address(pointer(2**64 - 8)) == 2**64 - 8
    cells = ffi.new("uint32_t[]", 4)
    assert address(ffi.addressof(cells, 3)) == address(cells) + 12


def test_strings_are_text() -> None:
    assert string(ffi.new("char[]", "8c846c879e22 é".encode())) == "8c846c879e22 é"


def test_arrays_are_lent_and_not_copied() -> None:
    values = np.array([1, 2, 3], np.uint32)
    lent = array("uint32_t[]", values)
    lent[1] = 7
    assert values.tolist() == [1, 7, 3]
    assert address(lent) == values.ctypes.data


def test_a_negative_errno_is_an_os_error_that_says_what_was_done() -> None:
    check(0, "nothing")
    with pytest.raises(
        PermissionError, match=r"^\[Errno 13\] pinning to CPU 1: Permission denied$"
    ) as raised:
        check(-errno.EACCES, "pinning to CPU 1")
    assert raised.value.errno == errno.EACCES


def test_where_it_was_never_built_that_is_what_is_said() -> None:
    code = (
        "import sys; sys.modules['pagebench._core'] = None\n"
        "from pagebench.errors import PagebenchError\n"
        "try:\n    import pagebench.core\nexcept PagebenchError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("this copy of pagebench has no compiled core: install it with `pip install")

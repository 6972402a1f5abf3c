"""Whether memory may be written to, found out without a fault."""

from __future__ import annotations

import ctypes
import errno
import os


def is_writable(at: int) -> bool:
    """Have the kernel write back the byte at an address: it says EFAULT where a store would end us."""
    byte = (ctypes.c_char * 1).from_address(at)
    reading, writing = os.pipe()
    try:
        os.write(writing, byte.raw)
        return os.readv(reading, [byte]) == 1
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        return False
    finally:
        os.close(reading)
        os.close(writing)

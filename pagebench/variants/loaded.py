"""Where a variant that is not built in is to be loaded from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loaded:
    """A variant of a shared object: ``inner`` is what it is called in there.

    ``built_in``: it is one of another build's, and is looked up with in place of this build's own.
    ``source`` says where it comes from: a compiler, a file, or how a kernel
    tree was compiled; ``tree`` is that tree's name.
    """

    name: str
    inner: str
    path: str
    source: str
    cflags: str
    tree: str = ""
    built_in: bool = False

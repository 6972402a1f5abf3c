"""Contenders from outside: kernel trees, a user's own variants, other compilers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pagebench.plan.presets import DEFAULT_CONTENDERS
from pagebench.variants import registry
from pagebench.variants.loaded import Loaded

# Not pinned to a form: as each compiler likes it.
PLAIN = ("pointer", "mask", "branchless")


@dataclass(frozen=True, slots=True)
class Outside:
    """Variants from elsewhere: (name, tree) and (name, file) pairs, compilers."""

    own: Sequence[tuple[str, Path]] = ()
    compilers: Sequence[str] = ()
    kernels: Sequence[tuple[str, Path]] = ()
    kernel_cc: str | None = None

    def load(self, struct_page_bytes: int) -> tuple[tuple[Loaded, ...], list[str]]:
        """The variants, compiled, and the contenders that they suggest.

        Raises PagebenchError for what does not compile.
        """
        loaded: list[Loaded] = []
        contenders: list[str] = []
        for name, tree in self.kernels:
            of_tree, sensible = registry.of_tree(name, tree, self.kernel_cc)
            loaded += of_tree
            contenders += sensible
        for cc in self.compilers:
            recompiled = registry.recompiled(cc, struct_page_bytes)
            loaded += recompiled
            # As each compiler likes it: those that are not pinned to a form.
            names = {one.inner: one.name for one in recompiled}
            contenders += [name for inner in PLAIN for name in (inner, names[inner])]
        for name, file in self.own:
            loaded.append(registry.users_own(name, file, struct_page_bytes))
            contenders += [*(() if contenders else DEFAULT_CONTENDERS), name]
        return tuple(loaded), list(dict.fromkeys(contenders))

"""Builds the extension: cffi glue over the C core, and the variants.

The variants are compiled with the kernel's flags and nothing else, whatever
Python or the environment would add; the rest of the core as extensions are.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from pagebench import architecture, names, tool  # noqa: E402  (the path has to be set first)
from pagebench.variants import compiler  # noqa: E402

# Compiled against kernel trees and never into the extension.
NOT_OURS = {"kernel_tree.c"}


class BuildExt(build_ext):
    """build_ext that finds the sources, emits the glue and compiles the variants by their own flags."""

    def finalize_options(self):  # type: ignore[no-untyped-def]
        """Find the sources: what stands in csrc/ is compiled, and all of it goes into an sdist."""
        super().finalize_options()
        for ext in self.extensions:
            here = [path.relative_to(ROOT) for path in sorted((ROOT / "csrc").rglob("*.[ch]"))]
            ours = [path for path in here if path.match("csrc/*.c") and path.name not in NOT_OURS]
            ext.sources = [str(path) for path in ours]
            ext.depends = [
                "build.py",
                *(
                    str(Path(module.__file__).relative_to(ROOT))
                    for module in (architecture, names, tool, compiler)
                ),
                *(str(path) for path in here if path not in ours),
            ]

    def build_extension(self, ext):  # type: ignore[no-untyped-def]
        """Emit the glue, compile the variants, then build as setuptools does."""
        import cffi

        scratch = Path(self.build_temp)
        scratch.mkdir(parents=True, exist_ok=True)

        header = (ROOT / "csrc" / "pagebench.h").read_text()
        ffi = cffi.FFI()
        ffi.cdef("".join(line for line in header.splitlines(True) if not line.startswith("#")))
        ffi.set_source(ext.name, '#include "pagebench.h"')
        glue = scratch / "glue.c"
        ffi.emit_c_code(str(glue))
        ext.sources.append(str(glue))

        cc = shlex.split(os.environ.get("CC", "cc"))
        flags = compiler.variant_cflags(cc)
        for source in sorted((ROOT / "csrc" / "variants").glob("*.c")):
            for size in names.BUILT_IN_STRUCT_PAGES:
                output = scratch / f"{source.stem}-{size}.o"
                sized = [f"-DPB_STRUCT_PAGE={size}", f"-DPB_SUFFIX=_{size}"]
                compiler.compile_object(cc, [*flags, *sized], source, output)
                ext.extra_objects.append(str(output))

        quote = '"{}"'.format
        ext.define_macros += [
            ("PB_CFLAGS", quote(" ".join(flags))),
            ("PB_BUILT_COMMIT", quote(tool.checkout_commit(ROOT))),
        ]
        super().build_extension(ext)


if __name__ == "__main__":
    sys.exit("build.py is called by setuptools: build with `pyproject-build` or `pip install -e .`")

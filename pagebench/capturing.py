"""A capture of this machine: the kernel's flags of every page, folded, without fake heads."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.host import captures, fake_heads, holes, proc_pages, running_kernel
from pagebench.host.captures import Capture
from pagebench.host.files import ROOT
from pagebench.names import PAGE_SIZE
from pagebench.units import format_size

assert captures.RUN_DTYPE == core.RUN_DTYPE

HVO = {True: "on", False: "off", None: "unknown"}
USUAL_STRUCT_PAGE = 64
TAIL = np.uint64(16)  # KPF_COMPOUND_TAIL


def capture(window: tuple[int, int] | None = None, pid: int | None = None, root: Path = ROOT) -> Capture:
    """The folios of this machine, or those that are whole in ``window`` (first pfn, how many).

    With ``pid`` which of them a process has mapped, too.  The kernel stands still for nobody: what changes
    while it is read may be torn.  Raises PagebenchError where the kernel does not let us.
    """
    kernel = running_kernel.describe(root)
    if kernel.base_page_bytes != PAGE_SIZE:
        raise PagebenchError(
            f"this kernel has {format_size(kernel.base_page_bytes)} pages: memmaps here are of "
            f"{format_size(PAGE_SIZE)} ones"
        )
    size = kernel.struct_page.value.size_bytes if kernel.struct_page.value else USUAL_STRUCT_PAGE
    pools = {kernel.order_of(pool): pool.counts["nr"] for pool in kernel.pools}
    first, count = window or (0, None)
    fold = core.Fold(first)
    runs = [fold.add(flags) for flags in proc_pages.page_flags(first, count, root)]
    behind = next(proc_pages.page_flags(fold.pfn, 1, root), None) if window else None
    runs.append(fold.end(cut=behind is not None and bool(behind[0] >> TAIL & np.uint64(1))))
    resolved = fake_heads.resolve(np.concatenate(runs), fold.first, pools, size, behind is not None)
    folios = holes.punch(resolved.runs, resolved.first, holes.memory_ranges(root))
    if not len(folios):
        where = f"window {first},{count}" if window else f"/{proc_pages.KPAGEFLAGS}"
        raise PagebenchError(f"there is no whole folio in {where}")
    found = Capture(
        architecture=platform.machine(),
        first=resolved.first,
        runs=folios,
        pools=pools,
        hvo=HVO[kernel.hvo.on.value],
        fake_heads=resolved.fake_heads,
        unsure=resolved.unsure,
        torn=fold.torn + resolved.torn,
        struct_page_bytes=size,
    )
    if pid is None:
        return found
    return captures.with_process(found, proc_pages.mapped_pfns(pid, root))

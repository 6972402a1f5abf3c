from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import summaries
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from pagebench.errors import PagebenchError
from pagebench.report import plots

K, M = 1 << 10, 1 << 20
CONTENDERS = (
    "pointer-branch@plain",
    "pointer-select@plain",
    "mask-select@plain",
    "mask-branch@plain",
    "branchless@hvo-shared",
    "branchless@plain",
    "linux-6.12+key@plain",
    "linux-7.2@hvo-shared:4k",
)
# ns on top of the reference, by contender, in L1
EXTRA = (0.0, 0.62, 0.62, 0.004, 3.9, 1.24, -0.35, 4.1)
LEVELS = {16 * K: ("l1", 2.6), 256 * K: ("l2", 5.1), 2 * M: ("l3", 18.0), 128 * M: ("dram", 104.0)}
GHZ = 3.24


def cell_of(contender: str, order: int, footprint: int, pattern: str, probe: str) -> dict[str, Any]:
    return {
        "contender": contender,
        "variant": contender.split("@")[0],
        "layout": contender.split("@")[1],
        "backing": "2m",
        "order": order,
        "footprint_bytes": footprint,
        "touched_bytes": footprint,
        "pattern": pattern,
        "probe": probe,
        "form": "select",
        "processes": 24,
        "counts": {},
        "rounds_dropped": 0.0,
    }


@cache
def template() -> str:
    """A run's summary, for what is not planted here."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"], control=True)])
        return json.dumps(summaries.summary_of(Path(scratch, "r.jsonl"), plan, summaries.made_up))


def latency(summary: dict[str, Any], probe: str, pattern: str) -> Figure:
    return plots.latency(summaries.typed(summary), probe, pattern)


def differences(summary: dict[str, Any], probe: str, pattern: str) -> Figure:
    return plots.differences(summaries.typed(summary), probe, pattern)


def figures(summary: dict[str, Any]) -> dict[str, Figure]:
    return plots.figures(summaries.typed(summary))


def summary_of(
    contenders: int = 5,
    orders: tuple[int, ...] = (0, 2, 4, 9),
    footprints: tuple[int, ...] = tuple(LEVELS),
    patterns: tuple[str, ...] = ("random",),
    probes: tuple[str, ...] = ("chain",),
    spread: float = 0.002,
) -> dict[str, Any]:
    """A run as ``show --format json`` prints it; differences drown in noise as footprints grow."""
    rng = np.random.default_rng(1)
    summary: dict[str, Any] = json.loads(template())
    caches = {"l1d_bytes": 32 * K, "l2_bytes": 512 * K, "l3_bytes": 32 * M}
    summary["tool"] = {"name": "pagebench", "version": "0.1.0", "commit": "b4ddb92+"}
    summary["machine"]["kernel_release"] = "6.18.44-0-generic"
    summary["machine"]["caches"] |= caches
    summary["calibration"]["l3_measured_bytes"] = 6 * M
    summary["plan"]["reference"] = CONTENDERS[0]
    summary["cells"], summary["harness"] = [], []
    for probe in probes:
        for pattern in patterns:
            for order in orders:
                for footprint in footprints:
                    nearest = min(LEVELS, key=lambda size: abs(math.log(size / footprint)))
                    level, base = LEVELS[nearest]
                    noise = base**1.5 * spread
                    for i, name in enumerate((*CONTENDERS[:contenders], "identity@plain")):
                        is_harness = name.startswith("identity")
                        extra = -0.75 * base if is_harness else EXTRA[i]
                        estimate = 0.0 if i == 0 else extra + float(rng.normal(0, noise / 2))
                        half = 0.0 if i == 0 else noise * float(rng.uniform(0.8, 1.2))
                        floor = noise * float(rng.uniform(1.0, 1.3))
                        median = base + (extra if i == 0 else estimate)
                        resolved = abs(estimate) > max(half, floor)
                        verdict = ("slower" if estimate > 0 else "faster") if resolved else "inconclusive"
                        ends = {"estimate": estimate, "low": estimate - half, "high": estimate + half}
                        cell = cell_of(name, order, footprint, pattern, probe) | {
                            "level": level,
                            "level_at_end": level,
                            "ns": {
                                "median": median,
                                "low_quantile": median - noise,
                                "interval": [median - 4 * noise, median + 5 * noise],
                            },
                            "cycles": {"median": median * GHZ * float(rng.uniform(0.998, 1.002))},
                            "ratio": {"estimate": 1.0, "low": 1.0, "high": 1.0},
                            "difference": {"ns": ends, "cycles": {k: v * GHZ for k, v in ends.items()}},
                            "p_adjusted": None,
                            "verdict": None if is_harness else "reference" if i == 0 else verdict,
                            "smallest_resolvable_ns": floor,
                        }
                        summary["harness" if is_harness else "cells"].append(cell)
    summary["noise"] = copy.deepcopy(summary["cells"][:1])
    return summary


# What a run may look like: the usual one, the widest, the smallest, and some that are awkward to lay out.
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "wide": {
        "contenders": 8,
        "orders": (0, 1, 2, 3, 4, 9, 22),
        "footprints": (16 * K, 32 * K, 48 * K, 256 * K, 2 * M, 8 * M, 128 * M, 1024 * M),
    },
    "one order": {"orders": (9,)},
    "one footprint": {"footprints": (16 * K,), "contenders": 8},
    "one cell": {"orders": (9,), "footprints": (256 * K,), "contenders": 2},
    "near footprints": {"orders": (0, 2, 9), "footprints": (24 * K, 32 * K, 128 * M), "contenders": 3},
    "below a factor of 8": {"orders": (0, 2, 4, 9, 18), "footprints": (192 * K, 384 * K), "contenders": 4},
}


def panels_of(fig: Figure) -> list[Any]:  # Any: to matplotlib's types, a line's data may be bytes
    return list(fig.axes)


def line_of(axes: Any, label: str) -> Any:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def labels_of(fig: Figure) -> list[str]:
    (legend,) = fig.legends
    return [text.get_text() for text in legend.get_texts()]


def group_of(summary: dict[str, Any], key: str = "cells", **keys: Any) -> list[dict[str, Any]]:
    return [cell for cell in summary[key] if all(cell[k] == v for k, v in keys.items())]


def without(summary: dict[str, Any], **keys: Any) -> dict[str, Any]:
    gone = group_of(summary, **keys)
    assert gone
    return summary | {"cells": [cell for cell in summary["cells"] if cell not in gone]}


def test_latency_has_a_panel_per_order() -> None:
    fig = latency(summary_of(), "chain", "random")
    titles = [
        "order 0 (4 KiB page)",
        "order 2 (16 KiB folio)",
        "order 4 (64 KiB folio)",
        "order 9 (2 MiB folio)",
    ]
    assert [axes.get_title() for axes in panels_of(fig)] == titles
    assert labels_of(fig) == [*CONTENDERS[:5], "identity@plain (the harness)"]
    first = panels_of(fig)[0]
    assert first.get_ylabel() == "ns per lookup"
    assert first.get_yscale() == "log"
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["16K", "256K", "2M", "128M"]
    assert all(axes.get_shared_y_axes().joined(axes, first) for axes in panels_of(fig))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_latency_shows_the_numbers_of_the_summary(case: str) -> None:
    summary = summary_of(**CASES[case])
    fig = latency(summary, "chain", "random")
    orders = CASES[case].get("orders", (0, 2, 4, 9))
    for order, axes in zip(orders, panels_of(fig), strict=True):
        for contender in dict.fromkeys(cell["contender"] for cell in summary["cells"]):
            cells = group_of(summary, order=order, contender=contender)
            line = line_of(axes, contender)
            assert list(line.get_ydata()) == [cell["ns"]["median"] for cell in cells]
            off = np.log2(line.get_xdata()) - np.log2([cell["footprint_bytes"] for cell in cells])
            assert np.abs(off).max() <= 0.5
            (band,) = [some for some in axes.collections if some.get_label() == contender]
            drawn = {float(y) for path in band.get_paths() for y in path.vertices[:, 1]}
            assert drawn == {end for cell in cells for end in cell["ns"]["interval"]}
        harness = group_of(summary, "harness", order=order)
        line = line_of(axes, "identity@plain")
        assert list(line.get_ydata()) == [cell["ns"]["median"] for cell in harness]
        assert list(line.get_xdata()) == [cell["footprint_bytes"] for cell in harness]
        assert line.get_linestyle() == ":"


def test_small_ranges_are_linear_from_zero() -> None:
    fig = latency(summary_of(**CASES["below a factor of 8"]), "chain", "random")
    assert panels_of(fig)[0].get_yscale() == "linear"
    assert panels_of(fig)[0].get_ylim()[0] == 0


def test_log_ticks_are_plain_numbers() -> None:
    fig = latency(summary_of(), "chain", "random")
    fig.draw_without_rendering()
    texts = {tick.get_text() for tick in panels_of(fig)[0].get_yticklabels()}
    assert {"1", "2", "5", "10", "20", "50", "100"} <= texts


def cache_marks(fig: Figure) -> dict[str, float]:
    return {text.get_text(): text.get_position()[0] for text in panels_of(fig)[0].texts}


def test_caches_are_marked_where_they_are() -> None:
    summary = summary_of()
    marks = {"L1d": 32 * K, "L2": 512 * K, "L3": 32 * M, "L3 got": 6 * M}
    assert cache_marks(latency(summary, "chain", "random")) == marks
    summary["calibration"]["l3_measured_bytes"] = 32 * M
    del marks["L3 got"]
    assert cache_marks(latency(summary, "chain", "random")) == marks


def test_unknown_caches_are_not_marked() -> None:
    summary = summary_of()
    summary["machine"]["caches"] = dict.fromkeys(summary["machine"]["caches"])
    summary["calibration"] = None
    assert cache_marks(latency(summary, "chain", "random")) == {}


def test_differences_has_a_panel_per_footprint() -> None:
    fig = differences(summary_of(), "chain", "random")
    titles = ["footprint 16K (L1)", "footprint 256K (L2)", "footprint 2M (L3)", "footprint 128M (DRAM)"]
    assert [axes.get_title() for axes in panels_of(fig)] == titles
    assert fig.get_suptitle().strip() == "Difference to pointer-branch@plain in ns per lookup"
    assert labels_of(fig)[:4] == list(CONTENDERS[1:5])
    for axes in panels_of(fig):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0\n4K", "2\n16K", "4\n64K", "9\n2M"]
        low, high = axes.get_ylim()
        assert low < 0 < high


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_differences_shows_the_numbers_of_the_summary(case: str) -> None:
    summary = summary_of(**CASES[case])
    fig = differences(summary, "chain", "random")
    footprints = CASES[case].get("footprints", tuple(LEVELS))
    compared = list(dict.fromkeys(cell["contender"] for cell in summary["cells"]))[1:]
    for footprint, axes in zip(footprints, panels_of(fig), strict=True):
        places = []
        bands = {bars.get_label(): bars.patches for bars in axes.containers}
        assert list(bands) == compared
        for contender in compared:
            cells = group_of(summary, footprint_bytes=footprint, contender=contender)
            line = line_of(axes, contender)
            assert list(line.get_ydata()) == [cell["difference"]["ns"]["estimate"] for cell in cells]
            places.append(line.get_xdata())
            assert [round(x) for x in line.get_xdata()] == list(range(len(cells)))
            (bars,) = [some for some in axes.collections if some.get_label() == contender]
            ends = [(cell["difference"]["ns"]["low"], cell["difference"]["ns"]["high"]) for cell in cells]
            assert [tuple(segment[:, 1]) for segment in bars.get_segments()] == ends
            floors = [cell["smallest_resolvable_ns"] for cell in cells]
            assert [-patch.get_y() for patch in bands[contender]] == floors
            heights = [patch.get_height() for patch in bands[contender]]
            assert heights == pytest.approx([2 * floor for floor in floors])
            filled = [
                float(y)
                for other in axes.lines
                if other.get_marker() == line.get_marker() and other is not line
                for y in other.get_ydata()
            ]
            assert filled == [
                cell["difference"]["ns"]["estimate"]
                for cell in cells
                if cell["verdict"] in ("faster", "slower")
            ]
        assert np.unique(np.concatenate(places)).size == sum(map(len, places))  # none on top of another
        (low, high), drawn = (
            axes.get_ylim(),
            [line.get_ydata() for line in axes.lines if line.get_label() in bands],
        )
        assert low < np.min(drawn) and np.max(drawn) < high


def secondary_axes(axes: Any) -> list[Any]:
    return [child for child in axes.child_axes if child.get_ylabel() == "core cycles"]


def test_cycles_only_where_one_frequency_held() -> None:
    summary = summary_of(footprints=(16 * K,))
    (right,) = secondary_axes(panels_of(differences(summary, "chain", "random"))[0])
    assert right._functions[0](1.0) == pytest.approx(GHZ, rel=0.003)
    for spoilt in (5.0, None):
        summary["cells"][-1]["cycles"]["median"] = spoilt
        assert not secondary_axes(panels_of(differences(summary, "chain", "random"))[0])


def test_a_group_may_lack_a_contender() -> None:
    summary = without(summary_of(), contender=CONTENDERS[1], order=0)
    summary = without(summary, contender=CONTENDERS[2], footprint_bytes=2 * M)
    fig = latency(summary, "chain", "random")
    first, late, *others = CONTENDERS[:5]
    assert labels_of(fig)[:5] == [first, *others, late]  # the order in which they appear
    assert [len(line_of(axes, CONTENDERS[1]).get_ydata()) for axes in panels_of(fig)] == [0, 4, 4, 4]
    assert [len(line_of(axes, CONTENDERS[2]).get_ydata()) for axes in panels_of(fig)] == [3, 3, 3, 3]
    fig = differences(summary, "chain", "random")
    assert labels_of(fig)[:4] == [*others, late]
    assert [len(line_of(axes, CONTENDERS[1]).get_ydata()) for axes in panels_of(fig)] == [3, 3, 3, 3]
    assert [round(x) for x in line_of(panels_of(fig)[0], CONTENDERS[1]).get_xdata()] == [1, 2, 3]
    assert [len(line_of(axes, CONTENDERS[2]).get_ydata()) for axes in panels_of(fig)] == [4, 4, 0, 4]


def test_a_group_may_lack_everything_but_the_reference() -> None:
    summary = summary_of(contenders=2)
    fig = differences(without(summary, contender=CONTENDERS[1], order=2), "chain", "random")
    assert [tick.get_text() for tick in panels_of(fig)[0].get_xticklabels()] == ["0\n4K", "4\n64K", "9\n2M"]


@pytest.mark.slow
def test_missing_numbers_leave_gaps() -> None:
    summary = summary_of()
    summary["cells"][1]["ns"]["interval"] = [None, None]
    summary["cells"][1]["difference"]["ns"] = dict.fromkeys(("estimate", "low", "high"))
    summary["cells"][2]["smallest_resolvable_ns"] = None
    for draw in (latency, differences):
        draw(summary, "chain", "random").draw_without_rendering()


@pytest.mark.slow
def test_a_contender_looks_the_same_in_every_figure() -> None:
    summary = summary_of(contenders=8, patterns=("random", "heads"))
    summary = without(summary, contender=CONTENDERS[1], pattern="heads")
    looks: dict[str, set[tuple[str, Any]]] = {name: set() for name in CONTENDERS}
    for fig in figures(summary).values():
        for line in (line for axes in panels_of(fig) for line in axes.lines if line.get_label() in looks):
            looks[str(line.get_label())].add((to_hex(line.get_color()), line.get_marker()))
    assert all(len(some) == 1 for some in looks.values())
    colours, markers = zip(*(look for some in looks.values() for look in some), strict=True)
    assert len(set(colours)) == len(set(markers)) == 8


@pytest.mark.slow
def test_figures_are_those_that_make_sense() -> None:
    names = [f"{kind}-{probe}-random" for probe in ("chain", "get") for kind in ("latency", "differences")]
    assert list(figures(summary_of(probes=("chain", "get")))) == names
    assert list(figures(summary_of(footprints=(16 * K,)))) == ["differences-chain-random"]
    assert list(figures(summary_of(contenders=1))) == ["latency-chain-random"]


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(PagebenchError, match="nothing to draw"):
        latency(summary_of(), "chain", "tails")
    with pytest.raises(PagebenchError, match="nothing to draw"):
        differences(summary_of(contenders=1), "chain", "random")


@pytest.mark.parametrize(
    ("hypervisor", "commit", "footer"),
    [
        ("KVM", "b4ddb92+", "VM (KVM)  ·  Linux 6.18.44-0-generic  ·  pagebench 0.1.0 (b4ddb92+)"),
        ("", "", "no hypervisor seen  ·  Linux 6.18.44-0-generic  ·  pagebench 0.1.0 (commit unknown)"),
    ],
)
def test_the_footer_says_where_and_with_what(hypervisor: str, commit: str, footer: str) -> None:
    summary = summary_of(orders=(0,), contenders=2)
    summary["machine"]["hypervisor"], summary["tool"]["commit"] = hypervisor, commit
    for fig in figures(summary).values():
        assert f"AMD EPYC 7B13 64-Core Processor  ·  {footer}" in [text.get_text() for text in fig.texts]


def drawn_texts(fig: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Each text that a rendering draws, with the pixels that it takes; ticks out of view are not drawn."""
    found: list[tuple[str, Bbox]] = []
    draw: Any = Text.draw

    def recorded(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        draw(self, renderer, *args, **kwargs)
        text = self.get_text()
        if text.strip() and self.get_visible():
            box = self.get_window_extent(renderer)
            if text.endswith("\n"):  # the title reserves a line for the note
                box = Bbox.from_extents(box.x0, (box.y0 + box.y1) / 2, box.x1, box.y1)
            found.append((text, box))

    fig.draw_without_rendering()
    monkeypatch.setattr(Text, "draw", recorded)
    canvas: Any = FigureCanvasAgg(fig)
    canvas.draw()
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_no_text_is_cut_or_covered(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = summary_of(**CASES[case])
    summary["machine"]["cpu_model"] = (
        "Intel(R) Xeon(R) Platinum 8481C CPU with a name of some length @ 2.70GHz"
    )
    summary["machine"]["kernel_release"] = (
        "6.18.44-123456.7.el10_3.cloud.x86_64+debug-with-a-long-local-version"
    )
    for fig in figures(summary).values():
        texts = drawn_texts(fig, monkeypatch)
        assert len(texts) > 10
        page = fig.bbox.padded(1)
        assert [text for text, box in texts if not (page.x0 <= box.x0 <= box.x1 <= page.x1)] == []
        assert [text for text, box in texts if not (page.y0 <= box.y0 <= box.y1 <= page.y1)] == []
        pairs = itertools.combinations([(text, box.padded(-1)) for text, box in texts], 2)
        assert [(a, b) for (a, one), (b, other) in pairs if one.overlaps(other)] == []
        legend = fig.legends[0].get_window_extent()
        boxes = [axes.get_tightbbox() for axes in panels_of(fig)]
        assert not any(box is not None and legend.overlaps(box) for box in boxes)


@pytest.mark.slow
def test_save_writes_png_and_svg_the_same_each_time(tmp_path: Path) -> None:
    for run in ("first", "second"):
        paths = plots.save(figures(summary_of(orders=(0, 9), contenders=3)), tmp_path / run, "run")
        names = [
            f"run-{kind}-chain-random.{suffix}"
            for kind in ("latency", "differences")
            for suffix in ("png", "svg")
        ]
        assert paths == [tmp_path / run / name for name in names]
        assert sorted(path.name for path in (tmp_path / run).iterdir()) == sorted(names)
    for name in names:
        first, second = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert first == second
        if name.endswith(".png"):
            assert int.from_bytes(first[16:20], "big") == 1000  # IHDR: width
        else:
            assert b"<dc:date>" not in first


@pytest.mark.slow
def test_save_keeps_names_inside_the_directory(tmp_path: Path) -> None:
    drawn = {"latency-chain-../a b": differences(summary_of(orders=(0,), contenders=2), "chain", "random")}
    assert [path.name for path in plots.save(drawn, tmp_path, "s")] == [
        "s-latency-chain-.._a_b.png",
        "s-latency-chain-.._a_b.svg",
    ]


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Figure, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    drawn = figures(summary_of(orders=(0,), contenders=2))
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        plots.save(drawn, tmp_path, "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_users_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    import matplotlib

    def svg(directory: str) -> bytes:
        drawn = {"d": differences(summary_of(orders=(0,), contenders=2), "chain", "random")}
        return plots.save(drawn, tmp_path / directory, "s")[1].read_bytes()

    before = svg("before")
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.grid": True}):
        assert svg("after") == before
        assert matplotlib.rcParams["font.size"] == 20


@pytest.mark.slow
def test_pyplot_is_never_imported() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import pathlib, tempfile, test_plots\n"
        "from pagebench.report import plots\n"
        "figures = test_plots.figures(test_plots.summary_of(orders=(0,), contenders=2))\n"
        "with tempfile.TemporaryDirectory() as scratch: plots.save(figures, pathlib.Path(scratch), 's')\n"
        "print(*(name for name in ('matplotlib.figure', 'matplotlib.pyplot') if name in sys.modules))"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.split() == ["matplotlib.figure"]


def test_nothing_drawn_is_nothing_saved(tmp_path: Path) -> None:
    assert plots.save({}, tmp_path / "none", "run") == []
    assert not (tmp_path / "none").exists()

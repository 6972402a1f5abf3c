from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.text import Annotation

from pagebench import cli, core, names, prove
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.memmap import memmaps, models
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.models import BASE_PAGES, MODELS, NO_FOLIO, OK, WRONG, BasePage, Model
from pagebench.prove import Proof
from pagebench.report import align
from pagebench.variants import registry

FOUR_K, SIXTEEN_K, SIXTY_FOUR_K = BASE_PAGES
# The highest order the mask is safe for, 64-byte struct pages, 4 KiB pages.  Its 24 for
# vmemmap is beyond MAX_FOLIO_ORDER, and in SPARSEMEM no folio is above a section's order, 15.
HIGHEST_SAFE = {
    "vmemmap": 22,
    "vmemmap-pmd": 15,
    "sparsemem-boot": 15,
    "sparsemem": 6,
    "sparsemem-aligned": 15,
    "flatmem": 0,
    "flatmem-aligned": 22,
}
# A small section, so that many of them take little memory: 16 pages.
SMALL = BasePage(4096, 16)
HEADER_4K = """\
base page 4K, struct page 64 bytes: mask
  folios up to order 22 (16G), sections of order 15 (128M)
  the kernel's rule: MAX_FOLIO_VMEMMAP_ALIGN = 64 << 22 = 256M
"""
BLOCK_4K = """
model             promised needed  ok     wrong  none  safe  v7.1     proof
vmemmap                 1G   256M  0-22   -      -       22  mask     mask
vmemmap-pmd             2M   256M  0-15   16-22  -       15  warning  no
sparsemem-boot          2M     2M  0-15   -      16-22   15  pointer  mask
sparsemem               4K     2M  0-6    7-15   16-22    6  pointer  no
sparsemem-aligned       2M     2M  0-15   -      16-22   15  pointer  mask
flatmem                 64   256M  0      1-22   -        0  pointer  no
flatmem-aligned       256M   256M  0-22   -      -       22  pointer  mask
  first wrong: vmemmap-pmd order 16, 65535 of 65535 wrong
               sparsemem order 7, 97536 of 97536 wrong
               flatmem order 1, 16384 of 16384 wrong
"""


@pytest.fixture(scope="module")
def proofs() -> list[Proof]:
    """4 KiB pages and 64-byte struct pages, all orders."""
    return prove.prove([FOUR_K], [64])


@pytest.fixture(scope="module")
def few() -> list[Proof]:
    """All base and struct pages, low orders."""
    return prove.prove(max_order=10)


def model_of(promise: int, sectioned: bool = False) -> Model:
    return Model("planted", "a test", lambda page, size: promise, sectioned)


def folio_maps(draw: st.DrawFn, struct_page_bytes: int, largest: int) -> FolioMap:
    """Folios of mixed orders one after another, each at a multiple of its pages, with holes."""
    folios, pfn = [], 0
    for order in draw(st.lists(st.integers(0, largest), min_size=1, max_size=12)):
        pfn = -(-pfn // (1 << order)) << order
        folios.append((pfn, order))
        pfn += 1 << order
    return FolioMap.of(struct_page_bytes, folios)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, FolioMap, bool]:
    size = draw(st.sampled_from(names.BUILT_IN_STRUCT_PAGES))
    sectioned = draw(st.booleans())
    promise = 1 << draw(st.integers(3 if size == 56 else 5 if size == 96 else 6, 16))
    return promise, folio_maps(draw, size, SMALL.pfn_section_shift if sectioned else 9), sectioned


def looked_up(placed: memmaps.ModelMemmap, variant: core.Variant) -> int:
    """Wrong lookups, over the offsets that a run would use."""
    folio_map = placed.folio_map
    pages, heads = (
        placed.page_offsets(folio_map.page_pfns),
        placed.page_offsets(folio_map.page_heads),
    )
    return core.verify(variant.probes["lookup"].run, placed.base, pages, heads).wrong


def wrong_by_brute_force(placed: memmaps.ModelMemmap) -> int:
    """The tails whose address, masked, is not their head's."""
    folio_map = placed.folio_map
    if folio_map.struct_page_bytes & (folio_map.struct_page_bytes - 1):
        return 0
    pairs: Iterator[tuple[int, int]] = zip(folio_map.page_pfns, folio_map.page_heads, strict=True)
    orders = dict(zip(map(int, folio_map.pfns), map(int, folio_map.orders), strict=True))
    wrong = 0
    for pfn, head in pairs:
        page, expected = (placed.base + 8 * int(placed.page_offsets(np.array([at]))[0]) for at in (pfn, head))
        mask = ~((folio_map.struct_page_bytes << orders[int(head)]) - 1)
        wrong += pfn != head and page & mask != expected
    return wrong


@given(cases())
@example((64, FolioMap.of(64, [(0, 0)]), False))
@example((64, FolioMap.of(64, [(0, 1)]), False))
@example((4096, FolioMap.of(64, [(0, 4), (16, 4), (32, 4)]), True))
def test_wrong_lookups_are_those_of_brute_force(case: tuple[int, FolioMap, bool]) -> None:
    promise, folio_map, sectioned = case
    variant = registry.find("mask", folio_map.struct_page_bytes)
    with memmaps.place(model_of(promise, sectioned), folio_map, SMALL) as placed:
        placed.write(variant, True)
        assert looked_up(placed, variant) == wrong_by_brute_force(placed)


@given(st.integers(6, 16), st.integers(0, 12))
def test_the_mask_is_safe_exactly_up_to_the_promise(promise: int, order: int) -> None:
    folio_map = FolioMap.uniform(order, 3 * 64 << order)
    with memmaps.place(model_of(1 << promise), folio_map) as placed:
        for name in ("mask", "branchless"):
            variant = registry.find(name)
            placed.write(variant, True)
            wrong = looked_up(placed, variant)
            assert (wrong == 0) == (64 << order <= 1 << promise or order == 0)
            assert wrong in (0, 3 * ((1 << order) - 1))


@given(cases())
def test_memmaps_have_the_promised_alignment_and_no_more(case: tuple[int, FolioMap, bool]) -> None:
    promise, folio_map, sectioned = case
    size, pages = folio_map.struct_page_bytes, 1 << SMALL.pfn_section_shift
    with memmaps.place(model_of(promise, sectioned), folio_map, SMALL) as placed:
        assert placed.promised_bytes == placed.obtained_bytes == promise
        end = folio_map.bytes // size
        firsts = np.arange(0, end, pages if sectioned else end)
        addresses = placed.base + 8 * placed.page_offsets(firsts).astype(np.int64)
        assert np.all(addresses % (2 * promise) == promise)
        # Sections are apart, and in no order that a lookup could take for one array.
        assert np.all(-np.diff(addresses) > pages * size)
        assert np.all(np.diff(placed.page_offsets(np.arange(min(pages, end)))) == size // 8)
        assert placed.folios["head"].tolist() == placed.page_offsets(folio_map.pfns).tolist()
        assert placed.folios["order"].tolist() == folio_map.orders.tolist()


def test_memory_is_backed_as_asked_and_only_as_written() -> None:
    folio_map = FolioMap.uniform(9, 4 << 20)
    with memmaps.place(models.find("vmemmap"), folio_map, backing="4k") as placed:
        assert resources.backing_obtained(placed.base, folio_map.bytes) == {"4k": 0, "2m": 0}
        placed.write(registry.find("pointer"), True)
        assert resources.backing_obtained(placed.base, folio_map.bytes) == {"4k": folio_map.bytes, "2m": 0}
    placed.close()


def test_a_folio_across_sections_is_refused() -> None:
    model = models.find("sparsemem")
    with memmaps.place(model, FolioMap.uniform(15, 0)) as placed:
        assert len(placed.folios) == 1
    with pytest.raises(PagebenchError, match="sparsemem has no folio above order 15 with 4K pages"):
        memmaps.place(model, FolioMap.uniform(16, 0))
    with pytest.raises(PagebenchError, match="did you mean 'sparsemem'"):
        models.find("sparsmem")


def test_a_memmap_beyond_offsets_or_addresses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PagebenchError, match="beyond 32G"):
        memmaps.place(model_of(1 << 34, True), FolioMap.of(64, [(0, 0), (16, 0)]), SMALL)

    def none(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memmaps.mmap, "mmap", none)
    with pytest.raises(PagebenchError, match=r"vmemmap needs 2\.0G of address space"):
        memmaps.place(models.find("vmemmap"), FolioMap.uniform(0, 4096))


def test_base_pages_are_the_kernels() -> None:
    assert [page.max_folio_order for page in BASE_PAGES] == [22, 20, 18]
    assert [page.pfn_section_shift for page in BASE_PAGES] == [15, 13, 13]
    assert [page.pmd_bytes >> 20 for page in BASE_PAGES] == [2, 32, 512]
    assert [page.max_folio_vmemmap_align(64) >> 20 for page in BASE_PAGES] == [256, 64, 16]
    assert {page.max_folio_vmemmap_align(size) for page in BASE_PAGES for size in (56, 96)} == {0}


def test_promises_are_those_of_the_facts() -> None:
    promised = {model.name: [model.promised(page, 64) for page in BASE_PAGES] for model in MODELS}
    assert promised == {
        "vmemmap": [1 << 30, 64 << 20, 512 << 20],
        "vmemmap-pmd": [2 << 20, 32 << 20, 512 << 20],
        "sparsemem-boot": [2 << 20, 512 << 10, 512 << 10],
        "sparsemem": [4096, 16384, 65536],
        "sparsemem-aligned": [2 << 20, 512 << 10, 512 << 10],
        "flatmem": [64, 64, 64],
        "flatmem-aligned": [256 << 20, 64 << 20, 16 << 20],
    }
    # 56 << 15 is 7 << 18: what divides every multiple of it is 1 << 18.
    assert models.find("sparsemem-boot").promised(FOUR_K, 56) == 1 << 18


def test_only_powers_of_two_have_a_mask() -> None:
    for size in names.BUILT_IN_STRUCT_PAGES:
        numbers = registry.encodings(
            {name: registry.find(name, size) for name in ("pointer", "mask", "branchless")}, 2
        )
        assert (numbers["mask"] != numbers["pointer"]) == models.has_mask(size) == (size == 64)
        assert numbers["mask"] == numbers["branchless"]


def test_highest_safe_orders_are_those_of_the_facts(proofs: list[Proof]) -> None:
    rows = align.rows_of(proofs)
    assert {row.first.model: row.highest_safe_order for row in rows} == HIGHEST_SAFE
    assert {row.first.model for row in rows if row.safe} == {
        "vmemmap",
        "sparsemem-boot",
        "sparsemem-aligned",
        "flatmem-aligned",
    }


def test_every_tail_of_every_order_is_looked_up(proofs: list[Proof]) -> None:
    assert [(p.model, p.order) for p in proofs] == [(m.name, order) for m in MODELS for order in range(23)]
    for proof in proofs:
        assert proof.found == proof.expected
        assert proof.obtained_bytes == proof.promised_bytes
        assert proof.tails == proof.heads * ((1 << proof.order) - 1)
        assert proof.wrong_tails == (proof.tails if proof.found == WRONG else 0)
        assert proof.wrong_heads == 0
        assert (proof.heads > 0) == (proof.found != NO_FOLIO)


def test_no_folio_is_above_a_sections_order(proofs: list[Proof]) -> None:
    for proof in proofs:
        above = proof.model.startswith("sparsemem") and proof.order > FOUR_K.pfn_section_shift
        assert (proof.found == NO_FOLIO) == above


def test_the_pointer_needs_no_alignment(few: list[Proof]) -> None:
    assert {(p.struct_page_bytes, p.encoding) for p in few} == {
        (64, "mask"),
        (56, "pointer"),
        (96, "pointer"),
    }
    assert {p.found for p in few if p.struct_page_bytes != 64} == {OK}
    assert not align.disagreements(few)


def test_a_wrong_head_alone_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = {"tails": 1, "wrong_tails": 0, "heads": 1, "wrong_heads": 1}
    monkeypatch.setattr(prove, "_look_up", lambda *_: looked)
    found = prove.prove([SIXTEEN_K], [64], 0)
    assert {proof.found for proof in found} == {WRONG}
    assert "vmemmap order 0, 1 of 1 wrong" in align.render(found)
    assert align.rows_of(found)[0].highest_safe_order is None


def test_the_report_is_this(proofs: list[Proof]) -> None:
    text = align.render(proofs)
    assert HEADER_4K + BLOCK_4K in text
    assert "161 of 161 proofs agree" in text
    for model in MODELS:
        assert f"\n{model.name} " in text.partition("\npromised ")[2]


def test_the_report_fits_a_mail(few: list[Proof]) -> None:
    text = align.render(few)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "orders above 10 were not looked at" in text
    # Nothing was wrong so far, and nothing proven.
    assert "vmemmap-pmd             2M   256M  0-10   -      -       10  warning  ?\n" in text
    assert {row.safe for row in align.rows_of(few) if row.first.model == "vmemmap-pmd"} == {None}
    assert "base page 64K, struct page 56 or 96 bytes: pointer" in text


def test_cli_prints_and_leaves_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["align", "--max-order", "8", "-o", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert f"plot: {tmp_path / 'align.png'} (and .svg)" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["align.png", "align.svg"]
    assert (tmp_path / "align.png").read_bytes().startswith(b"\x89PNG")
    xml.etree.ElementTree.parse(tmp_path / "align.svg")


def test_cli_json_has_every_model_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--base-page", "16k,64K", "--struct-page", "64,56", "--max-order", "14"]
    assert cli.main(["align", "--format", "json", "--no-plots", *options]) == 0
    data = json.loads(capsys.readouterr().out)
    keys = {(p["base_page_bytes"], p["struct_page_bytes"], p["model"], p["order"]) for p in data["proofs"]}
    assert len(keys) == len(data["proofs"]) == 2 * 2 * len(MODELS) * 15
    assert all(proof["agrees"] for proof in data["proofs"])
    assert data["disagreements"] == []
    assert data["variant"]["name"] == "mask"
    rows = {(r["base_page_bytes"], r["struct_page_bytes"], r["model"]): r for r in data["rows"]}
    sparse = rows[65536, 64, "sparsemem"]
    assert sparse["highest_safe_order"] == 10
    assert (sparse["wrong_orders"], sparse["no_such_folio_orders"]) == ([11, 12, 13], [14])
    assert (sparse["kernel"], sparse["safe"], sparse["needed_bytes"]) == ("pointer", False, 64 << 13)
    assert rows[16384, 64, "vmemmap-pmd"]["kernel"] == "warning"
    assert rows[65536, 64, "vmemmap-pmd"]["kernel"] == "mask"
    assert rows[65536, 64, "vmemmap"]["max_folio_vmemmap_align_bytes"] == 16 << 20
    assert rows[65536, 56, "vmemmap"]["kernel"] == "pointer"


@pytest.mark.parametrize("form", ["text", "json"])
def test_cli_exits_1_where_proof_and_arithmetic_disagree(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = models.arithmetic

    def planted(model: Model, page: BasePage, struct_page_bytes: int, order: int) -> str:
        if (model.name, page, struct_page_bytes, order) == ("flatmem", FOUR_K, 64, 2):
            return OK
        return real(model, page, struct_page_bytes, order)

    monkeypatch.setattr(prove, "arithmetic", planted)
    assert cli.main(["align", "--max-order", "3", "--no-plots", "--format", form]) == 1
    out, err = capsys.readouterr()
    where = "flatmem, order 2, base page 4K, struct page 64 bytes: found 'wrong', expected 'ok'"
    assert err == f"pagebench: a proof disagrees with the arithmetic: {where}\n"
    if form == "json":
        assert json.loads(out)["disagreements"] == [where]
    else:
        assert f"DISAGREE: {where}" in " ".join(out.split())
        assert "251 of 252 proofs agree" in out


def test_cli_refuses_what_does_not_fit_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "available_bytes", lambda: 300 << 20)
    monkeypatch.setattr(memmaps.mmap, "mmap", lambda *_: pytest.fail("allocated"))
    assert cli.main(["align", "--struct-page", "64"]) == 2
    assert "need 304M and 300M of memory are free" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--struct-page", "72"], "unknown struct page '72': known: 56, 64, 96"),
        (["--base-page", "8K"], "unknown base page '8K'"),
        (["--base-page", "large"], "'large' is not a size"),
        (["--max-order", "-1"], "too small"),
        (["--max-order", "0", "-o", "/dev/null/here"], "cannot write plots to /dev/null/here"),
    ],
)
def test_cli_says_what_was_wrong(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["align", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_figure_shows_every_model_and_order(proofs: list[Proof]) -> None:
    pointer = [dataclasses.replace(p, struct_page_bytes=96, encoding="pointer", found=OK) for p in proofs]
    figure = align.figure([*proofs, *pointer])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Base page 4K, struct page 64 bytes: mask",
        "Base page 4K, struct page 96 bytes: pointer",
    ]
    for axes, shown in zip(figure.axes, (proofs, pointer), strict=True):
        texts = [text for text in axes.texts if not isinstance(text, Annotation)]
        cells = {text.get_position(): text.get_text() for text in texts}
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == [model.name for model in MODELS]
        for proof in shown:
            expected = {OK: "ok", WRONG: "100%", NO_FOLIO: "\N{EN DASH}"}[proof.found]
            assert cells[proof.order, names.index(proof.model)] == expected
        assert len(axes.patches) == len(shown)


def test_text_and_json_load_no_matplotlib() -> None:
    code = "import sys, pagebench.report.align; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The report on memory models: text, JSON, and what the command does."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import proven
import pytest
from planted_models import FOUR_K, SIXTEEN_K

from pagebench import cli, prove
from pagebench.memmap import models
from pagebench.memmap.models import MODELS, OK, WRONG, BasePage, Model
from pagebench.report import align
from pagebench.results.proofs import by_model

HEADER_4K = """\
base page 4K, struct page 64 bytes: mask
  folios up to order 22 (16G), sections of order 15 (128M)
  the kernel's rule: MAX_FOLIO_VMEMMAP_ALIGN = 64 << 22 = 256M
"""
TABLE_4K = """
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


def test_a_wrong_head_alone_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = {"tails": 1, "wrong_tails": 0, "heads": 1, "wrong_heads": 1}
    monkeypatch.setattr(prove, "_look_up", lambda *_: looked)
    found = prove.prove([SIXTEEN_K], [64], 0)
    assert {proof.found for proof in found.proofs} == {WRONG}
    assert "vmemmap order 0, 1 of 1 wrong" in align.render(found)
    assert by_model(found.proofs)[0].highest_safe_order is None


@pytest.mark.slow
def test_the_report_is_this() -> None:
    text = align.render(proven.all_orders())
    assert HEADER_4K + TABLE_4K in text
    assert "161 of 161 proofs agree" in text
    for model in MODELS:
        assert f"\n{model.name} " in text.partition("\npromised ")[2]


@pytest.mark.slow
def test_the_report_fits_a_mail() -> None:
    text = align.render(proven.low_orders())
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 75
    assert "orders above 10 were not looked at" in text
    # Nothing was wrong so far, and nothing proven.
    assert "vmemmap-pmd             2M   256M  0-10   -      -       10  warning  ?\n" in text
    assert {row.safe for row in by_model(proven.low_orders().proofs) if row.first.model == "vmemmap-pmd"} == {
        None
    }
    assert "base page 64K, struct page 56 or 96 bytes: pointer" in text


@pytest.mark.slow
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
    assert (sparse["kernels_choice"], sparse["safe"], sparse["needed_bytes"]) == ("pointer", False, 64 << 13)
    assert rows[16384, 64, "vmemmap-pmd"]["kernels_choice"] == "warning"
    assert rows[65536, 64, "vmemmap-pmd"]["kernels_choice"] == "mask"
    assert rows[65536, 64, "vmemmap"]["max_folio_vmemmap_align_bytes"] == 16 << 20
    assert rows[65536, 56, "vmemmap"]["kernels_choice"] == "pointer"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.slow
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


def test_text_and_json_load_no_matplotlib() -> None:
    code = "import sys, pagebench.report.align; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

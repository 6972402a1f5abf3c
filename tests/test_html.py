"""The page: whole, escaped, and looked at by a browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import reports
import summaries

from pagebench import cli
from pagebench.report import html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
VOID = {"meta", "img", "br", "link"}


class Outline(HTMLParser):
    """Which elements there are, whether they nest, and what they refer to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.data: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.data.append(data)


@cache
def page_of(name: str) -> str:
    return html.render(summaries.typed(reports.summary_of(name)))


@pytest.mark.parametrize("name", reports.NAMES)
def test_elements_nest_and_nothing_is_fetched(name: str) -> None:
    outline = Outline(page_of(name))
    assert (outline.open, outline.wrong) == ([], [])
    for tag, attributes in outline.found:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not any(key.startswith("on") for key in attributes)
        source = attributes.get("src") or attributes.get("href") or ""
        assert source == "" or source.startswith("data:image/svg+xml;base64,")
    policies = [a["content"] for tag, a in outline.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies and policies[0] is not None and "default-src 'none'" in policies[0]


def test_what_is_in_it() -> None:
    summary = summaries.typed(reports.summary_of("untrusted"))
    text = " ".join("".join(Outline(page_of("untrusted")).data).split())
    assert text.index("This run is not to be trusted") < text.index("All cells")
    for said in (
        *summary.warnings,
        summary.command,
        summary.machine.cpu_model,
        summary.limits,
        "The machine code that was timed",
        "ret",
    ):
        assert " ".join(said.split()) in text, said
    assert sum(tag == "img" for tag, _ in Outline(page_of("untrusted")).found) >= 1


def test_every_row_is_there_and_sorts_by_its_numbers() -> None:
    summary = summaries.typed(reports.summary_of("counted"))
    page = page_of("counted")
    cells = page[page.index('id="cells"') :]
    rows = re.findall(r"<tr><td.*?</tr>", cells[: cells.index("</table>")])
    assert len(rows) == len(summary.cells) + len(summary.noise) + len(summary.null) + len(summary.harness)
    assert f'data-value="{summary.cells[1].difference.ns.estimate}"' in rows[1]


def test_what_a_file_says_becomes_no_element() -> None:
    decoded = reports.summary_of("counted")
    attack = "</pre></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    decoded["command"] = attack
    decoded["warnings"] = [attack]
    decoded["machine"]["cpu_model"] = attack
    page = html.render(summaries.typed(decoded))
    outline = Outline(page)
    assert sum(tag == "script" for tag, _ in outline.found) == 1
    assert attack not in page
    assert (outline.open, outline.wrong) == ([], [])


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    plan = summaries.plan_of([summaries.group_of(["pointer-branch", "branchless"], control=True)], rounds=3)
    return summaries.file_of(tmp_path / "r.jsonl", plan, summaries.made_up)


def test_the_command_writes_it_beside_the_file_or_where_asked(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(("report", "r.jsonl")) == 0
    assert capsys.readouterr().out == "r.html\n"
    before = Path("r.html").read_bytes()
    assert before.startswith(b"<!DOCTYPE html>")
    assert cli.main(("report", "r.jsonl", "-o", "there/page.html")) == 0
    assert Path("there/page.html").read_bytes() == before
    assert cli.main(("report", "r.jsonl")) == 0  # once more, in its place
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["r.html", "r.jsonl", "there"]


def test_what_cannot_be_written_is_a_line(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("r.jsonl/page.html", ".", "/proc/page.html"):
        assert cli.main(("report", "r.jsonl", "-o", output)) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"pagebench: cannot write {output}: ") and err.count("\n") == 1


CLICK = """
<script>
for (const label of ["order", "order", "footprint"]) {
	[...document.querySelectorAll("#cells th button")].find((b) => b.textContent === label).click();
}
const rows = [...document.querySelectorAll("#cells tbody tr")];
document.title = rows.map((row) => row.cells[4].textContent).join();
</script>
</body>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_sorts_it(tmp_path: Path) -> None:
    assert CHROMIUM
    page = page_of("many")
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", CLICK))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found
    sizes = found[1].split(",")
    assert sizes == sorted(sizes, key=["16K", "1000K", "128M"].index)
    assert set(sizes) == {"16K", "1000K", "128M"}
    assert 'aria-sort="ascending"' in done.stdout

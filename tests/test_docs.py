from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagebench import cli
from pagebench.names import FOLIO_KINDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
)
# What is listed under each heading of the glossary, under its heading in `list`.
COMPLETE = ("layouts", "patterns", "presets", "probes")


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def prose_of(document: Path) -> str:
    """Without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(document), flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """Headings as links spell them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def first_column(document: Path, heading: str) -> list[str]:
    """What stands as code in the first column of the table under a heading."""
    section = re.split(r"^#+ ", prose_of(document), flags=re.MULTILINE)
    (table,) = (part for part in section if part.partition("\n")[0].lower() == heading.lower())
    return [
        name for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE) for name in re.findall("`(.+?)`", row)
    ]


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, set[str]]:
    """The names that `list` prints, by the word above them."""
    assert cli.main(["list"]) == 0
    sections = re.findall(r"^(\w+).*\n((?:  .*\n)+)", capsys.readouterr().out, re.MULTILINE)
    return {title: set(re.findall(r"^  (\S+)", rows, re.MULTILINE)) for title, rows in sections}


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(document)):
            if not re.match(r"https?:", target):
                yield document, target


@pytest.mark.parametrize(
    "document, target", [pytest.param(*link, id=f"{link[0].name}-{link[1]}") for link in links()]
)
def test_a_link_leads_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    assert file.exists()
    assert not anchor or anchor in anchors_of(file)


def paths() -> Iterator[tuple[Path, str]]:
    """Paths of the repository that stand as code in prose, CAPITALS for anything."""
    for document in DOCUMENTS:
        for path in re.findall(
            r"`((?:csrc|pagebench|tests|docs|benchmarks|\.ci)/[^`\s]*)", prose_of(document)
        ):
            yield document, path


@pytest.mark.parametrize(
    "document, path", [pytest.param(*named, id=f"{named[0].name}-{named[1]}") for named in paths()]
)
def test_a_path_that_is_named_exists(document: Path, path: str) -> None:
    assert list(ROOT.glob(re.sub(r"\b[A-Z]{3,}\b", "*", path).rstrip("/")))


@pytest.mark.parametrize(
    "marker, command",
    [
        ("run", "python -m pagebench run"),
        ("test", "python -m pytest"),
        ("track", "--benchmark-compare --benchmark-compare-fail=median:25%"),
    ],
)
def test_readme_has_the_block_that_ci_runs(marker: str, command: str) -> None:
    block = re.search(
        rf"^<!-- {marker} -->\n```sh\n(.*?)^```$", text_of(ROOT / "README.md"), re.MULTILINE | re.DOTALL
    )
    assert block and block[1].strip().endswith(command)
    assert f"run_readme_block {marker} " in text_of(ROOT / ".ci" / "run")


def test_readme_is_read_in_five_minutes() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 170


def test_every_document_is_linked_from_readme() -> None:
    targets = {target for document, target in links() if document.name == "README.md"}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")} <= targets


def test_the_rooms_of_the_architecture_exist() -> None:
    rooms = first_column(ROOT / "docs" / "architecture.md", "The rooms")
    assert "pagebench/results/" in rooms
    assert [room for room in rooms if not (ROOT / room).exists()] == []


@pytest.mark.parametrize("what", COMPLETE)
def test_the_glossary_lists_what_there_is(what: str, listed: dict[str, set[str]]) -> None:
    assert set(first_column(ROOT / "docs" / "glossary.md", what)) == listed[what]


def test_the_glossary_lists_the_kinds_of_folios() -> None:
    assert set(first_column(ROOT / "docs" / "glossary.md", "kinds")) == set(FOLIO_KINDS)


def test_the_glossary_lists_variants_that_there_are(listed: dict[str, set[str]]) -> None:
    # Not all of them: a variant is a file that nothing else names.
    variants = set(first_column(ROOT / "docs" / "glossary.md", "variants"))
    assert {"pointer", "branchless"} <= variants <= listed["variants"]

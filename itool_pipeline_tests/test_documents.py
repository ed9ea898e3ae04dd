"""README and docs/: links lead somewhere, SQL runs on today's tables, and the README stays a map."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itool_pipeline.experiment_files import experiment_names
from itool_pipeline.store.database import Database

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 150


def links_of(document: Path) -> list[str]:
    """Targets of all links and pictures that lead to a file of the repository, without the part behind `#`."""
    found = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


def headings_of(document: Path) -> set[str]:
    """The anchors that a Markdown page has, as the usual renderers name them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    lost = []
    for link in links_of(document):
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (anchor and anchor not in headings_of(target)):
            lost.append(link)
    assert lost == []


def test_lost_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](gone.md) [b](https://example.org) ![c](page.md#a-title) [d](#nowhere)\n")
    assert links_of(page) == ["gone.md", "page.md#a-title", "#nowhere"]
    assert headings_of(page) == {"a-title"}


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links_of(page) if link[0] != "#"]
    assert [page.name for page in DOCUMENTS if page not in reached] == []


def test_the_readme_is_a_map() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LONGEST_README
    first = next(link for link in re.findall(r"\]\(([^)\s]+)\)", "\n".join(lines)))
    assert first == "https://arxiv.org/abs/2501.09766"


def queries_of(document: Path) -> list[str]:
    """The statements of all SQL blocks."""
    blocks = re.findall(r"^```sql\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)
    return [query.strip() for block in blocks for query in re.split(r";\s*$", block, flags=re.M) if query.strip()]


QUERIES = [(document.name, query) for document in DOCUMENTS for query in queries_of(document)]


def test_there_is_sql_to_copy() -> None:
    assert len(QUERIES) >= 12


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(QUERIES)])
def test_sql_runs_on_todays_tables(name: str, query: str, tmp_path: Path) -> None:
    with Database(tmp_path / "empty.duckdb").read() as connection:
        connection.execute(query)


def test_every_shipped_experiment_is_described() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert [name for name in experiment_names() if f"`{name}`" not in text] == []

"""One comparison from the names of its entrants to its page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from itool_pipeline.comparison.entrants import parse_entrant, read_entrants
from itool_pipeline.comparison.page import page_of
from itool_pipeline.comparison.pictures import Picture, pictures_of
from itool_pipeline.comparison.tables import TextTable, tables_of
from itool_pipeline.errors import ActionableError
from itool_pipeline.files.durable import write_whole
from itool_pipeline.store.paths import StoragePaths

_LONGEST_NAME = 150


class ComparisonError(ActionableError):
    """What was named cannot be compared. The message says what to name."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the page shows, and the page, a file that needs nothing beside it."""

    tables: Sequence[TextTable]
    pictures: Sequence[Picture]
    page: Path


def compare(paths: StoragePaths, names: Sequence[str], page: Path | None = None) -> Comparison:
    """Entrants on the benchmarks that all of them were scored on; the first is what the others are held against.

    names  as `parse_entrant` reads them
    page   where it is written; without it into the storage's folder `comparisons`

    Raises ComparisonError for names that mean nothing together, StorageError for what was not scored.
    """
    try:
        entrants = [parse_entrant(text) for text in names]
    except ValueError as error:
        raise ComparisonError(str(error)) from error
    if not entrants:
        raise ComparisonError("name at least one entrant: EXPERIMENT, or EXPERIMENT@CHECKPOINT")
    if len({len(entrant.members) for entrant in entrants}) > 1:
        raise ComparisonError("entrants that are several experiments joined by + need as many of them each")
    entered = read_entrants(paths.database, entrants)
    shared = [name for name in entered[0].cases if all(name in one.cases for one in entered)]
    if not shared:
        raise ComparisonError("no benchmark was asked of all of them")
    tables = [table for benchmark in shared for table in tables_of(benchmark, entered)]
    pictures = [picture for benchmark in shared for picture in pictures_of(benchmark, entered)]
    title = " | ".join(entrant.name for entrant in entrants)
    page = page or paths.root / "comparisons" / f"{_file_name(title)}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = page_of(title, tables, pictures)
    write_whole(page, lambda scratch: scratch.write_text(text, encoding="utf-8"))
    return Comparison(tables, pictures, page)


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9_@+-]+", "_vs_", title)[:_LONGEST_NAME]

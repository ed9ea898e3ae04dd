"""What a file of conversations holds, before any experiment: its layout, how many rows are read, and why others not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from itool_pipeline.config import ColumnNames, JsonlData, MessageTags
from itool_pipeline.core.types import Example, Progress, no_progress
from itool_pipeline.data.column_guess import guessed_columns
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.columns import renamed_row
from itool_pipeline.data.conversations.spelling_names import spelling_of
from itool_pipeline.data.layouts import CHAT, LAYOUTS, first_objects, layout_of, read_in_layout
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, RowError
from itool_pipeline.data.streams import UnreadableFile

_SHOWN_KEYS = 12


@dataclass(slots=True)
class Refused:
    """Rows, or turns, with one kind of trouble: how many, and the first with its particulars."""

    count: int
    position: str
    reason: str


@dataclass(slots=True)
class FirstLook:
    """A file as its layout's reader reads it.

    layout     that most of its rows have, a key of LAYOUTS
    columns    names of columns that were guessed
    layouts    layout → rows; an empty name for rows in none that is known, or that are no JSON objects
    spellings  of chats, by their well-known names → rows
    rows       in the file
    read       rows that give an example at least
    examples   category → examples
    refused    by kind
    passed     why turns are not learnt from → how many
    changed    what was changed in reading → how often
    """

    layout: str
    columns: ColumnNames
    layouts: Mapping[str, int]
    spellings: Mapping[str, int]
    rows: int
    read: int = 0
    examples: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Refused] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    @property
    def quarantined(self) -> int:
        """Rows, and turns of rows, that are not read."""
        return sum(refused.count for refused in self.refused.values())


def look_at(path: Path, progress: Progress = no_progress) -> FirstLook:
    """Read the whole file, for its layout and then for its examples. `progress` gets kB of each time.

    Raises UnreadableFile for a file that is not read, and for one whose rows are in no layout that is known; OSError.
    """
    columns = guessed_columns(first_objects(file_rows(path)))
    look = _layouts_of(path, columns, progress)
    data = JsonlData(type="jsonl", path=str(path), layout="auto", columns=columns)
    groups: set[str] = set()
    for row in read_in_layout(data, [path], look.layout, progress):
        if isinstance(row, Example):
            groups.add(row.group)
            look.examples[row.category] += 1
        elif isinstance(row, Quarantined):
            look.refused.setdefault(row.kind, Refused(0, row.position, row.reason)).count += 1
        elif isinstance(row, PassedOver):
            look.passed[row.reason] += 1
        elif isinstance(row, Changed):
            look.changed[row.what] += row.times
    look.read = len(groups)
    return look


def _layouts_of(path: Path, columns: ColumnNames, progress: Progress) -> FirstLook:
    layouts, spellings, keys, refused = Counter[str](), Counter[str](), Counter[str](), ""
    for given in file_rows(path, progress):
        try:
            row = renamed_row(given.json_object(), columns, MessageTags())
        except RowError as error:
            layouts[""] += 1
            refused = refused or f"{given.position}: {error}"
            continue
        name = layout_of(row)
        layouts[name] += 1
        keys.update(row.keys())
        if name == CHAT:
            spellings[spelling_of(row)] += 1
    known = [(name, count) for name, count in layouts.most_common() if name]
    if not known:
        raise UnreadableFile(_unknown(path, layouts[""], [key for key, _ in keys.most_common(_SHOWN_KEYS)], refused))
    layout = known[0][0] if columns == ColumnNames() else CHAT
    return FirstLook(layout, columns, layouts, spellings, sum(layouts.values()))


def _unknown(path: Path, rows: int, keys: list[str], refused: str) -> str:
    none = f"none of them is a JSON object{f' ({refused})' if refused else ''}"
    has = f"its keys are {', '.join(keys)}" if keys else none
    sought = "; ".join(f"{name}: {layout.keys}" for name, layout in LAYOUTS.items())
    return (
        f"{path}: none of its {rows} rows is in a layout that is known; {has}. Looked for was: {sought}. Where the "
        "columns only have names of their own, say so with data.columns (docs/data.md)."
    )

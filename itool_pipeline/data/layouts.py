"""The layouts of rows that are read, which of them a file has, and its rows read in it.

`chat` is every spelling of messages, row by row (`conversations.spelling`). The others are told by their rows' keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from itool_pipeline.config import JsonlData
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.data.containers import FileRow, rows_of_files
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.conversations.columns import absent_columns, renamed_row
from itool_pipeline.data.conversations.gemini import gemini_row, is_gemini
from itool_pipeline.data.conversations.glaive import glaive_row, is_glaive
from itool_pipeline.data.conversations.known_keys import Keys, is_absent
from itool_pipeline.data.rows import Row, RowError
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.toolace import is_toolace, toolace_rows
from itool_pipeline.data.xlam import is_xlam, xlam_rows

SAMPLE_ROWS = 100
CHAT = "chat"

_PLACES = (
    *(("messages",), ("conversations",), ("conversation",)),
    *(("prompt", "completion"), ("instruction", "output")),
)


def _is_chat(row: Keys) -> bool:
    return any(all(not is_absent(row.get(key)) for key in keys) for keys in _PLACES)


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are laid out.

    keys    what rows have, in words
    claims  whether a row looks so
    read    rows as examples
    """

    keys: str
    claims: Callable[[Keys], bool]
    read: Callable[[Iterable[FileRow]], Iterator[Row]]


LAYOUTS: Mapping[str, Layout] = {
    "toolace": Layout("ToolACE's `system` with a tool list, `conversations`", is_toolace, toolace_rows),
    CHAT: Layout(
        "`messages` or `conversations`, a list; `prompt` and `completion`; `instruction` and `output`",
        _is_chat,
        chat_rows,
    ),
    "xlam": Layout("xLAM's `query`, `answers`, `tools`", is_xlam, xlam_rows),
    "glaive": Layout(
        "Glaive's `chat` or `sample`, a whole conversation as text", is_glaive, partial(chat_rows, translate=glaive_row)
    ),
    "gemini": Layout("Gemini's `contents` with `parts`", is_gemini, partial(chat_rows, translate=gemini_row)),
}
"""By name. A row has the first that claims it."""


def layout_of(row: Keys) -> str:
    """The layout that a row looks like; empty where it is none that is known."""
    return next((name for name, layout in LAYOUTS.items() if layout.claims(row)), "")


def found_layout(rows: Iterable[FileRow]) -> str:
    """The layout that most of the first rows have, as `data.layout: auto` reads them.

    What can be read as a chat is one, ToolACE's rows too: who wants the set's instructions left out names its layout.
    Where none is known it is `chat`, whose reader says of each row what it lacks.
    """
    counts: Counter[str] = Counter()
    for row in first_objects(rows):
        counts[CHAT if _is_chat(row) else layout_of(row)] += 1
    del counts[""]
    return counts.most_common(1)[0][0] if counts else CHAT


def first_objects(rows: Iterable[FileRow]) -> list[Keys]:
    """The first rows, as far as they are objects."""
    found: list[Keys] = []
    for row in islice(rows, SAMPLE_ROWS):
        try:
            found.append(row.json_object())
        except RowError:
            continue  # the reader says so of it
    return found


def resolved_layout(data: JsonlData, paths: Sequence[Path]) -> str:
    """The layout in which the files are read. Raises UnreadableFile and OSError as `rows_of_files` does."""
    if data.has_names_of_its_own():
        return CHAT
    return found_layout(rows_of_files(paths)) if data.layout == "auto" else data.layout


def layout_as_it_stands(path: Path) -> str:
    """The layout that is found in a local file, for its fingerprint; `chat` where reading it will say what is wrong."""
    try:
        return found_layout(rows_of_files([path])) if path.is_file() else CHAT
    except (UnreadableFile, OSError):
        return CHAT


def source_name(layout: str) -> str:
    """The source of the layout's examples and quarantined rows."""
    return layout if layout in ("toolace", "xlam") else "jsonl"


def read_in_layout(
    data: JsonlData, paths: Sequence[Path], layout: str, progress: Progress = no_progress
) -> Iterator[Row]:
    """The rows of the files as examples, read in the layout, with columns and tags renamed.

    Raises UnreadableFile when no first row has a column that is named, else as `rows_of_files` does, and OSError.
    """
    if not data.has_names_of_its_own():
        return LAYOUTS[layout].read(rows_of_files(paths, progress))
    first = first_objects(rows_of_files(paths))
    if absent := absent_columns(data.columns, first):
        there = ", ".join(dict.fromkeys(key for row in first for key in row)) or "no keys"
        asked = ", ".join(f"data.{one}" for one in absent)
        raise UnreadableFile(f"{paths[0]}: none of the first {len(first)} rows has {asked}. They have {there}.")
    return chat_rows(rows_of_files(paths, progress), lambda row, changes: renamed_row(row, data.columns, data.tags))


def read_any_layout(path: Path, progress: Progress = no_progress) -> Iterator[Row]:
    """The rows of a local file as examples, in the layout that is found. Raises as `rows_of_files` does."""
    return LAYOUTS[found_layout(rows_of_files([path]))].read(rows_of_files([path], progress))

"""The rows of a file, whatever they are kept in: JSON lines, a JSON array, documents one after the other, Parquet.

What it is the first bytes say, not the file's name. JSON may be compressed by gzip. What is none of these is refused as
a whole, by one sentence that names it.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.data.parquet_rows import PARQUET, parquet_rows
from itool_pipeline.data.rows import RowError, expect_that, json_object, parse_json
from itool_pipeline.data.streams import (
    GZIP,
    UnreadableFile,
    json_array,
    json_documents,
    json_lines,
    opened_file,
)

READABLE = "Read are JSON lines, a JSON array or Parquet; JSON in UTF-8, also in gzip."

_HEAD_BYTES = 1 << 16
_SAMPLE_LINES = 20
_SHOWN_CHARS = 60

_BEGINNINGS = (
    (codecs.BOM_UTF32_LE, "text in UTF-32; save it as UTF-8"),
    (codecs.BOM_UTF32_BE, "text in UTF-32; save it as UTF-8"),
    (codecs.BOM_UTF16_LE, "text in UTF-16; save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "text in UTF-16; save it as UTF-8"),
    (GZIP, "gzip inside of gzip; unpack it once"),
    (PARQUET, "Parquet inside of gzip; unpack it"),
    (b"PARE", "encrypted Parquet; write it without encryption"),
    (b"PK\x03\x04", "a zip archive, or a file made of one such as a workbook of Excel; export its rows"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"SQLite format 3\x00", "a database of SQLite; export its rows"),
    (b"ARROW1", "an Arrow file; write it with `to_parquet` or `to_json`"),
    (b"FEA1", "a Feather file; write it with `to_parquet` or `to_json`"),
    (b"\xff\xff\xff\xff", "an Arrow stream, as `datasets` caches it; write it with `to_parquet` or `to_json`"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack it"),
    (b"BZh", "compressed by bzip2; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed by LZ4; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"Rar!", "a rar archive; unpack it"),
    (b"Obj\x01", "an Avro file; write it as JSON lines or Parquet"),
    (b"ORC", "an ORC file; write it as JSON lines or Parquet"),
    (b"\x89HDF", "an HDF5 file; write it as JSON lines or Parquet"),
    (b"\x93NUMPY", "an array of NumPy; write its rows as JSON lines"),
    (b"\x80", "a pickle, which is never loaded as it can run code; write its rows as JSON lines"),
    (b"%PDF", "a PDF"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the data; fetch it with `git lfs pull`"),
)
"""How files begin that are read by nothing here → what they are, and what to do."""
_TAR, _TAR_AT = b"ustar", 257

_WRAPPERS = ("data", "rows", "row", "train", "examples", "records", "items", "instances", "samples", "dataset")
"""Keys under which a single object that is a whole file holds its rows."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row as it stands in its file.

    index     from 0, among the rows
    number    from 1: the line's, and where lines are no rows, the row's
    position  the same for people
    given     the JSON value; of a line, its bytes
    """

    index: int
    number: int
    position: str
    given: Any

    def json_object(self) -> dict[str, Any]:
        """The object that the row is. Raises RowError when it is none, or no JSON."""
        if isinstance(self.given, bytes):
            return json_object(self.given)
        if isinstance(self.given, RowError):
            raise self.given
        expect_that(isinstance(self.given, dict), "not a JSON object")
        return dict(self.given)


def file_rows(path: Path, progress: Progress = no_progress) -> Iterator[FileRow]:
    """The rows of a file, one at a time. A line that is no JSON is a row like any other. `progress` gets kB.

    Raises UnreadableFile when the file is none of what is read, holds no row, or breaks off; rows before the damage
    have been given by then. Raises OSError when it cannot be read.
    """
    rows = _rows(path, progress)
    first = list(islice(rows, 2))
    if not first:
        raise UnreadableFile(f"{path}: holds no row. {READABLE}")
    if len(first) == 1:
        _refuse_wrapped_rows(path, first[0])
    yield from first
    yield from rows


def rows_of_files(paths: Sequence[Path], progress: Progress = no_progress) -> Iterator[FileRow]:
    """The rows of several files, as if they were one; a position names its file. Of one file, as `file_rows` has them.

    Raises UnreadableFile and OSError as `file_rows` does.
    """
    if len(paths) == 1:
        yield from file_rows(paths[0], progress)
        return
    total, before, index, number = sum(path.stat().st_size // 1000 for path in paths), 0, 0, 0
    for path in paths:

        def tell(done: int, _: int, before: int = before) -> None:
            progress(before + done, total)

        row = None
        for row in file_rows(path, tell):
            position = f"{path.name}, {row.position}"
            yield FileRow(index + row.index, number + row.number, position, row.given)
        index, number = (index, number) if row is None else (index + row.index + 1, number + row.number)
        before += path.stat().st_size // 1000


def missing_file(path: Path) -> str:
    """What is there in the place of a file that is to be read, in one sentence."""
    if not path.is_dir():
        return f"There is no file {path}."
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    held = f"which holds {', '.join(names[:3])}{' …' if len(names) > 3 else ''}" if names else "which holds no file"
    return f"{path} is a folder, {held}; data is read from one file, so name one or join them."


def _rows(path: Path, progress: Progress) -> Iterator[FileRow]:
    head = _head(path)
    if head.startswith(PARQUET) and not _is_packed(path):
        return (FileRow(i, i + 1, f"row {i}", row) for i, row in enumerate(parquet_rows(path, progress)))
    _refuse_other_content(path, head)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not text:
        raise UnreadableFile(f"{path}: holds no row: the file is empty. {READABLE}")
    if text.startswith(b"[") and not _has_lists_in_lines(text):
        return (FileRow(i, i + 1, f"row {i}", row) for i, row in enumerate(json_array(path, progress)))
    if text.startswith(b"[") or _has_objects_in_lines(text):
        lines = enumerate(json_lines(path, progress))
        return (FileRow(i, number, f"line {number}", line) for i, (number, line) in lines)
    if text.startswith(b"{") and _goes_on(text):
        return (FileRow(i, i + 1, f"row {i}", row) for i, row in enumerate(json_documents(path, progress)))
    raise UnreadableFile(f"{path}: {_what_text_is(text)} {READABLE}")


def _head(path: Path) -> bytes:
    """The beginning of the content, unpacked."""
    with opened_file(path) as file:
        return file.content.read(_HEAD_BYTES)


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _refuse_other_content(path: Path, head: bytes) -> None:
    what = next((what for beginning, what in _BEGINNINGS if head.startswith(beginning)), "")
    if head[_TAR_AT:].startswith(_TAR):
        what = "a tar archive; unpack it"
    elif not what and b"\x00" in head[:4]:
        what = "text in UTF-16 or UTF-32, or no text at all; save it as UTF-8"
    if what:
        raise UnreadableFile(f"{path}: is {what}. {READABLE}")


def _first_lines(text: bytes) -> list[bytes]:
    """Those that are not blank. The last may be cut off."""
    return list(islice((line for line in io.BytesIO(text) if line.strip()), _SAMPLE_LINES))


def _has_objects_in_lines(text: bytes) -> bool:
    """Whether one of the first lines is a JSON object, so that others that are none are damaged rows."""
    lines = _first_lines(text)
    if len(lines) == 1 and len(text) >= _HEAD_BYTES // 2 and not text.endswith(b"\n"):
        return text.startswith(b"{")  # a row as long as that is no pretty-printed one: those have short first lines
    return any(isinstance(_json_of(line), dict) for line in lines)


def _has_lists_in_lines(text: bytes) -> bool:
    """Whether a text that begins with `[` has a row in each line all the same: a whole list, or a damaged row."""
    lines = _first_lines(text)
    if len(lines) < 2 or isinstance(_json_of(lines[0]), list):
        return len(lines) > 1
    opened = lines[0].rstrip()
    return opened != b"[" and not opened.endswith(b",") and isinstance(_json_of(lines[1]), dict)


def _json_of(line: bytes) -> Any:
    try:
        return parse_json(line.decode("utf-8"))
    except (RowError, UnicodeDecodeError):
        return None


def _goes_on(text: bytes) -> bool:
    """Whether the text begins with a JSON object that goes on in the next line, or with one before another."""
    shown = text.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(shown)
    except json.JSONDecodeError as error:
        return error.pos >= len(shown.splitlines()[0])
    except (ValueError, RecursionError):
        return True  # JSON all the same: a number, or a nesting, too long to be read, which reading it says
    return shown[end:].lstrip()[:1] in ("", "{")


def _what_text_is(text: bytes) -> str:
    first = text.splitlines()[0].decode("utf-8", "replace").strip()
    shown = first if len(first) <= _SHOWN_CHARS else first[: _SHOWN_CHARS - 1] + "…"
    if first.startswith("<"):
        return f"is HTML or XML and no JSON: it begins with `{shown}`; a download may have brought a page in its place."
    if first.startswith("{") and first.endswith(","):
        return f"is a list without its brackets, or no JSON: it begins with `{shown}`."
    return f"is no JSON: it begins with `{shown}`."


def _refuse_wrapped_rows(path: Path, row: FileRow) -> None:
    """Says so where the only object of a file is not a row but holds them all."""
    try:
        found = row.json_object()
    except RowError:
        return
    for key, value in found.items():
        if key.lower() in _WRAPPERS and isinstance(value, list) and all(isinstance(x, dict | list) for x in value):
            raise UnreadableFile(
                f"{path}: is one JSON object, whose key `{key}` holds a list of {len(value)}: if these are the rows, "
                f"keep the list alone (jq '.{key}' does it). {READABLE}"
            )
    if found and all(isinstance(column, dict) and "0" in column for column in found.values()):
        raise UnreadableFile(
            f"{path}: is one JSON object that holds a table by columns; write it by rows (in pandas "
            f"`to_json(orient='records', lines=True)`). {READABLE}"
        )

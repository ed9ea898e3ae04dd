"""Files of many rows, read one row at a time: a JSON array, a JSON document in each line, or one after the other.

All may be compressed by gzip. The array is cut into members by the `json` module itself, so that a row means what it
means everywhere else. Streaming parsers on yajl, such as ijson, refuse a whole file for one integer over 64 bits or one
NaN, put `?` for half a character without a word, and fill the memory at a row of deeply nested brackets.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.errors import ActionableError

CHUNK_BYTES = 1 << 20
ROW_BYTES = 1 << 28
"""A longer row (in an array, one of more characters) is refused.

A row that does not end would fill the memory, and gzip makes gigabytes of a small file.
"""
GZIP = b"\x1f\x8b"
"""How a file begins that gzip compressed."""
_SPACE = re.compile(r"[ \t\r\n]*")
_END = re.compile(r"[ \t\r\n]*[],]")


class UnreadableFile(ActionableError):
    """A whole file is not what it should hold. The message says which, where in it, and what was found."""


def json_lines(path: Path, progress: Progress = no_progress) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of each line that is not blank, a byte order mark left out. `progress` gets kB.

    Raises OSError, and UnreadableFile for damaged gzip and for a line of more than ROW_BYTES.
    """
    read = 0
    with opened_file(path, progress) as file:
        for number, line in enumerate(iter(lambda: file.content.readline(ROW_BYTES + 1), b""), 1):
            if len(line) > ROW_BYTES:
                raise _too_long(path, f"line {number}")
            read += len(line)
            if read >= CHUNK_BYTES:
                read = 0
                file.tell_progress()
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield number, text
        file.tell_progress()


class OpenedFile:
    """A file's content, unpacked where it is gzip's, and how far it has been read. `progress` gets kB of the file."""

    def __init__(self, path: Path, raw: BinaryIO, progress: Progress) -> None:
        self._raw, self._total, self._progress = raw, path.stat().st_size, progress
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        self.content: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")) if packed else raw

    def tell_progress(self) -> None:
        self._progress(self._raw.tell() // 1000, self._total // 1000)


@contextmanager
def opened_file(path: Path, progress: Progress = no_progress) -> Iterator[OpenedFile]:
    """The file, to be read inside. Raises OSError, and UnreadableFile where gzip's content is damaged or cut off."""
    with path.open("rb") as raw:
        try:
            yield OpenedFile(path, raw, progress)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableFile(f"{path}: the gzip is damaged or cut off: {error}. Copy or make it again.") from error


def json_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a small file of JSON objects, one in a line. Raises OSError, and ValueError for what is no JSON."""
    return [json.loads(line) for _, line in json_lines(path)]


def json_array(path: Path, progress: Progress = no_progress) -> Iterator[Any]:
    """The members of the JSON array that the file holds, one at a time, as `json.load` has them. `progress` gets kB.

    The text is UTF-8, with or without a byte order mark.

    Raises UnreadableFile when it holds no JSON array, the JSON breaks off or a member takes more than ROW_BYTES, and
    OSError when it cannot be read. Members before the damage have been given by then.
    """
    text = _Text(path, progress)
    first = text.peek()
    if first != "[":
        raise UnreadableFile(f"{path}: must hold a JSON list of rows")
    text.skip()
    if text.peek() == "]":
        text.skip()
    else:
        while True:
            yield text.value()
            mark = text.peek()
            text.skip()
            if mark == "]":
                break
            if mark != ",":
                found = f"`,` or `]` expected after row {text.rows - 1}, found {mark!r}"
                raise UnreadableFile(f"{path}: not JSON: {found}")
    if text.peek():
        raise UnreadableFile(f"{path}: not JSON: there is something after the list")


def json_documents(path: Path, progress: Progress = no_progress) -> Iterator[Any]:
    """JSON documents that stand one after the other, however many lines each has, one at a time.

    Raises UnreadableFile where the JSON breaks off, and OSError. Documents before the damage have been given by then.
    """
    text = _Text(path, progress)
    while text.peek():
        yield text.value()


def _too_long(path: Path, row: str, found: str = "") -> UnreadableFile:
    return UnreadableFile(
        f"{path}: {row} is longer than {ROW_BYTES >> 20} MiB, or never ends{found}; part it, or mend it"
    )


class _Text:
    """A window on a file's text that grows when a value does not fit into it."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path, self._progress = path, progress
        self._chunks = self._read()
        self._decoder = json.JSONDecoder()
        self._window, self._at = "", 0
        self.rows = 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            found = _SPACE.match(self._window, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._grow(1):
                return ""

    def skip(self) -> None:
        """Past the character that was peeked at."""
        self._at += 1

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        chunks = 1
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, self._at)
                # `1` may be the beginning of `1.5`; what has its own end may not.
                whole = self._window[end - 1] in '}]"' or _END.match(self._window, end) is not None
            except (ValueError, RecursionError) as error:
                # It may only have been cut off. Doubling keeps the work linear when it is truly broken.
                if len(self._window) - self._at > ROW_BYTES:
                    raise _too_long(self._path, f"row {self.rows}", f": {error}") from error
                if not self._grow(chunks):
                    raise UnreadableFile(f"{self._path}: not JSON: row {self.rows}: {error}") from error
            else:
                if whole or not self._grow(chunks):
                    self._at = end
                    self.rows += 1
                    return value
            room = ROW_BYTES + CHUNK_BYTES - (len(self._window) - self._at)
            chunks = min(2 * chunks, max(1, room // CHUNK_BYTES))

    def _grow(self, chunks: int) -> bool:
        """More text, and what was read dropped. False when the file has ended."""
        more = []
        for _ in range(chunks):
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            more.append(chunk)
        self._window, self._at = self._window[self._at :] + "".join(more), 0
        return bool(more)

    def _read(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        with opened_file(self._path, self._progress) as file:
            try:
                while chunk := file.content.read(CHUNK_BYTES):
                    file.tell_progress()
                    yield decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise UnreadableFile(f"{self._path}: not UTF-8: {error}") from error

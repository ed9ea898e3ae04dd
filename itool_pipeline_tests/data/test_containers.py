"""The same rows out of every container, and what else a file may be, each refused by one sentence that names it."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.config import JsonlData
from itool_pipeline.core.types import Example, no_progress
from itool_pipeline.data.containers import FileRow, file_rows
from itool_pipeline.data.rows import Quarantined, RowError
from itool_pipeline.data.sources import READERS, local_file
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.wheels import FetchError
from itool_pipeline_tests.data.test_toolace import SYSTEM

TOOLS = [{"name": "f", "description": "", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "jsonl": [
        {
            "messages": [
                {"role": "user", "content": f"Wie heißt „{name}“?\u2028"},
                {"role": "assistant", "content": "So: {} [1,"},
            ],
            "tools": TOOLS,
        }
        for name in ("ä", "b", "c")
    ],
    "toolace": [
        {
            "system": SYSTEM.format(note="", tools=json.dumps(TOOLS)),
            "conversations": [{"from": "user", "value": f"ü {i}"}, {"from": "assistant", "value": f'[f(a="{i}")]'}],
        }
        for i in range(3)
    ],
    "xlam": [
        {
            "query": f"é {i}",
            "answers": json.dumps([{"name": "f", "arguments": {"a": str(i)}}]),
            "tools": json.dumps([{"name": "f", "description": "", "parameters": {"a": {"type": "str"}}}]),
        }
        for i in range(3)
    ],
}


def text_of(row: Any, **how: Any) -> str:
    return json.dumps(row, ensure_ascii=False, **how)


def lines(rows: list[Any]) -> bytes:
    return "".join(f"{text_of(row)}\n" for row in rows).encode()


def array(rows: list[Any]) -> bytes:
    return text_of(rows).encode()


def parquet(rows: list[Any]) -> bytes:
    kept = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), kept, row_group_size=2)
    return kept.getvalue()


BOM = b"\xef\xbb\xbf"
CONTAINERS: dict[str, Callable[[list[Any]], bytes]] = {
    "lines": lines,
    "lines, the last without an end": lambda rows: lines(rows).rstrip(),
    "lines, escaped": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "lines with a byte order mark": lambda rows: BOM + lines(rows),
    "lines of Windows": lambda rows: lines(rows).replace(b"\n", b"\r\n"),
    "gzip": lambda rows: gzip.compress(lines(rows)),
    "gzip in two parts": lambda rows: gzip.compress(lines(rows[:1])) + gzip.compress(lines(rows[1:])),
    "gzip with a byte order mark": lambda rows: gzip.compress(BOM + lines(rows)),
    "an array": array,
    "an array with a byte order mark": lambda rows: BOM + array(rows),
    "an array, an object in each line": lambda rows: (
        b"[\n" + b",\n".join(text_of(row).encode() for row in rows) + b"\n]\n"
    ),
    "an array, printed": lambda rows: text_of(rows, indent=2).encode(),
    "an array in gzip": lambda rows: gzip.compress(text_of(rows, indent=2).encode()),
    "an array behind blank lines": lambda rows: b"\n\r\n  " + array(rows),
    "objects, printed": lambda rows: "\n".join(text_of(row, indent=2) for row in rows).encode(),
    "objects in one line": lambda rows: "".join(text_of(row) for row in rows).encode(),
    "lines of old Macs": lambda rows: "\r".join(text_of(row) for row in rows).encode(),
    "Parquet": parquet,
}


def read(folder: Path, kind: str, content: bytes) -> list[Any]:
    path = folder / "rows"
    path.write_bytes(content)
    return list(READERS[kind](path, no_progress))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_examples_from_every_container(tmp_path: Path, kind: str, container: str) -> None:
    plain = read(tmp_path, kind, lines(ROWS[kind]))
    assert [type(row) for row in plain] == [Example] * 3
    assert read(tmp_path, kind, CONTAINERS[container](ROWS[kind])) == plain


@pytest.mark.parametrize("container", CONTAINERS)
def test_one_row_in_every_container(tmp_path: Path, container: str) -> None:
    (row,) = read(tmp_path, "jsonl", CONTAINERS[container](ROWS["jsonl"][:1]))
    assert isinstance(row, Example)


@pytest.mark.parametrize("container", CONTAINERS)
def test_large_rows_in_every_container(tmp_path: Path, container: str) -> None:
    """Each has more than is looked at to tell what the file is."""
    rows = [{"messages": [{"role": "user", "content": "x" * 200_000}, *row["messages"][1:]]} for row in ROWS["jsonl"]]
    found = read(tmp_path, "jsonl", CONTAINERS[container](rows))
    if container in ("objects in one line", "lines of old Macs"):
        (row,) = found  # one line, however many objects it has: said to be no JSON
        assert row.reason.startswith("not JSON: Extra data")
    else:
        assert [len(row.question) for row in found] == [200_000] * 3


def test_lines_keep_their_numbers_and_rows_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'\n{"a": 1}\r\n\r\nno\n[]\n{"a": 2}')
    found = [(row.index, row.number, row.position) for row in file_rows(path)]
    assert found == [(0, 2, "line 2"), (1, 4, "line 4"), (2, 5, "line 5"), (3, 6, "line 6")]
    path.write_text('[{"a": 1}, 3]')
    assert [(row.index, row.number, row.position) for row in file_rows(path)] == [(0, 1, "row 0"), (1, 2, "row 1")]


@pytest.mark.parametrize("bad", [b"no", b"[1", b"[1, 2]", b"{", b"{'a': 1}", b"\xff", b'{"a": 1', b"# made by hand"])
def test_a_damaged_line_is_one_row(tmp_path: Path, bad: bytes) -> None:
    """Wherever it stands, the others are read."""
    good = lines(ROWS["jsonl"]).splitlines()
    for place in range(4):
        found = read(tmp_path, "jsonl", b"\n".join([*good[:place], bad, *good[place:]]))
        assert [isinstance(row, Quarantined) for row in found] == [i == place for i in range(4)]
        assert found[place].position == f"line {place + 1}"
        assert found[place].reason.startswith(("not JSON", "not a JSON object", "not UTF-8"))


def zipped(name: str) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr(name, lines(ROWS["jsonl"]))
    return kept.getvalue()


def tarred() -> bytes:
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"), io.BytesIO())
    return kept.getvalue()


def arrow(make: Callable[[Any, pa.Schema], Any]) -> bytes:
    table, kept = pa.Table.from_pylist([{"a": 1}]), io.BytesIO()
    with make(kept, table.schema) as writer:
        writer.write_table(table)
    return kept.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a)")
        return connection.serialize()


GOOD = lines(ROWS["jsonl"])
OTHERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the file is empty"),
    "white space": (b" \n\t\r\n", "the file is empty"),
    "a byte order mark": (BOM, "the file is empty"),
    "no rows": (b"[ ]", "holds no row"),
    "empty gzip": (gzip.compress(b""), "the file is empty"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": (GOOD.decode().encode("utf-16-le"), "is text in UTF-16 or"),
    "UTF-16 without a mark, the other way round": (GOOD.decode().encode("utf-16-be"), "is text in UTF-16 or"),
    "UTF-16 in gzip": (gzip.compress(GOOD.decode().encode("utf-16")), "is text in UTF-16; save it as UTF-8"),
    "UTF-32": (GOOD.decode().encode("utf-32"), "is text in UTF-32"),
    "cut gzip": (gzip.compress(GOOD * 9)[:-30], "the gzip is damaged or cut off"),
    "damaged gzip": (gzip.compress(GOOD)[:60] + b"\x00" * 40, "the gzip is damaged or cut off"),
    "gzip twice": (gzip.compress(gzip.compress(GOOD)), "is gzip inside of gzip"),
    "Parquet in gzip": (gzip.compress(parquet(ROWS["xlam"])), "is Parquet inside of gzip"),
    "cut Parquet": (parquet(ROWS["xlam"])[:-20], "is Parquet, but damaged or cut off"),
    "a damaged name in Parquet": (parquet(ROWS["xlam"]).replace(b"answers", b"\x9enswers"), "is Parquet, but damaged"),
    "Parquet without rows": (parquet(ROWS["xlam"][:0]), "holds no row"),
    "zip": (zipped("rows.jsonl"), "is a zip archive"),
    "a workbook": (zipped("[Content_Types].xml"), "such as a workbook of Excel"),
    "tar": (tarred(), "is a tar archive"),
    "tar in gzip": (gzip.compress(tarred()), "is a tar archive"),
    "Arrow": (arrow(pa.ipc.new_file), "is an Arrow file"),
    "an Arrow stream": (arrow(pa.ipc.new_stream), "is an Arrow stream"),
    "SQLite": (database(), "is a database of SQLite"),
    "Zstandard": (pa.compress(GOOD, "zstd", asbytes=True), "is compressed by Zstandard"),
    "bzip2": (b"BZh91AY&SY" + bytes(range(99)), "is compressed by bzip2"),
    "a pickle": (b"\x80\x04\x95" + b"\x00" * 20, "is a pickle, which is never loaded"),
    "a page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is HTML or XML and no JSON"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a pointer of Git LFS"),
    "CSV": (b"messages,tools\n" + b'"[]","[]"\n' * 2000, "is no JSON: it begins with `messages,tools`"),
    "YAML": (b"- messages:\n  - role: user\n", "is no JSON: it begins with `- messages:`"),
    "Python": (b"{'messages': []}\n" * 50, "is no JSON: it begins with `{'messages': []}`"),
    "no brackets": (b'{"a": 1},\n' * 50, "is a list without its brackets, or no JSON"),
    "a number too long": (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: row 0: Exceeds the limit"),
    "a nesting too deep": (b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b"}", "not JSON: row 0: maximum recursion"),
    "a cut object": (b'{\n  "messages": [\n    {\n', "not JSON: row 0"),
    "rows under a key": (text_of({"version": 1, "data": ROWS["jsonl"]}).encode(), "whose key `data` holds a list of 3"),
    "rows under a key, printed": (text_of({"Train": ROWS["jsonl"]}, indent=1).encode(), "whose key `Train` holds a li"),
    "columns": (b'{"messages": {"0": [], "1": []}, "tools": {"0": [], "1": []}}', "a table by columns"),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_read_is_named(tmp_path: Path, kind: str, other: str) -> None:
    content, told = OTHERS[other]
    with pytest.raises(UnreadableFile) as caught:
        read(tmp_path, kind, content)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'rows'}: ")
    assert "\n" not in str(caught.value)


def test_rows_before_the_damage_were_given(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b'{"a": 1}{\n"a": 2\n}\n{"a": ')
    given: list[FileRow] = []
    with pytest.raises(UnreadableFile, match="not JSON: row 2: "):
        given.extend(row for row in file_rows(path))
    path.write_bytes(gzip.compress(GOOD * 2000)[:-3000])
    rows = file_rows(path)
    assert next(rows).json_object() == ROWS["jsonl"][0]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        FetchError, match=r"is a folder, which holds a\.parquet, b\.parquet; data is read from one file"
    ):
        local_file(JsonlData(type="jsonl", path=str(tmp_path)))


def parquet_row(folder: Path, value: Any, kind: pa.DataType) -> FileRow:
    return parquet_row_of(folder, pa.array([value], kind))


def parquet_row_of(folder: Path, values: pa.Array) -> FileRow:
    path = folder / "rows.parquet"
    pq.write_table(pa.table({"x": values}), path)
    (row,) = file_rows(path)
    return row


NOON = datetime.datetime(2024, 5, 1, 12, 0)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, pa.string(), None),
        (True, pa.bool_(), True),
        (7, pa.int8(), 7),
        (2**63, pa.uint64(), 2**63),
        (0.5, pa.float32(), 0.5),
        (["a", None], pa.large_list(pa.large_string()), ["a", None]),
        ([1, 2], pa.list_(pa.int64(), 2), [1, 2]),
        ({"a": 1, "b": [{"c": None}]}, None, {"a": 1, "b": [{"c": None}]}),
        ([("k", [1])], pa.map_(pa.string(), pa.list_(pa.int64())), {"k": [1]}),
        ([(1, "x")], pa.map_(pa.int64(), pa.string()), {"1": "x"}),
        (NOON, pa.timestamp("us"), "2024-05-01T12:00:00"),
        (NOON.replace(tzinfo=datetime.UTC), pa.timestamp("us", "UTC"), "2024-05-01T12:00:00+00:00"),
        (NOON.date(), pa.date32(), "2024-05-01"),
        ([NOON.time()], pa.list_(pa.time64("us")), ["12:00:00"]),
        (Decimal("2.50"), pa.decimal128(9, 2), 2.5),
        (Decimal("7.00"), pa.decimal128(9, 2), 7),
        (b"caf\xc3\xa9", pa.binary(), "café"),
        ('{"a": [1, null]}', pa.json_(), {"a": [1, None]}),
        ("x", pa.dictionary(pa.int8(), pa.string()), "x"),
    ],
)
def test_values_of_parquet_as_json_has_them(tmp_path: Path, value: Any, kind: Any, expected: Any) -> None:
    found = parquet_row(tmp_path, value, kind).json_object()["x"]
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (b"\xff\xfe", pa.binary(), "bytes that are no text: b'\\xff\\xfe'"),
        (Decimal("1.0000000000000000000001"), pa.decimal128(30, 22), "a decimal that no JSON number equals"),
        (datetime.timedelta(1), pa.duration("s"), "holds a value that JSON does not know"),
        ([("k", 1), ("k", 2)], pa.map_(pa.string(), pa.int64()), "a map has a key twice: ['k', 'k']"),
        ("{", pa.json_(), "a JSON column is not JSON"),
        ([({"a": 1}, 1)], pa.map_(pa.struct({"a": pa.int8()}), pa.int64()), "a map whose keys are no plain values"),
        (2**62, pa.timestamp("us"), "holds a value that cannot be read: date value out of range"),
        (2**62, pa.duration("s"), "holds a value that cannot be read: "),
        (2**31 - 1, pa.date32(), "holds a value that cannot be read: days=2147483647"),
        (1, pa.timestamp("us", "Mars/Phobos"), "holds a value that cannot be read: 'Mars/Phobos'"),
    ],
)
def test_values_that_json_cannot_hold_quarantine_their_row(tmp_path: Path, value: Any, kind: Any, reason: str) -> None:
    row = parquet_row(tmp_path, value, kind)
    with pytest.raises(RowError) as caught:
        row.json_object()
    assert str(caught.value).startswith(reason)
    (found,) = READERS["jsonl"](tmp_path / "rows.parquet", no_progress)
    assert isinstance(found, Quarantined)
    assert (found.position, found.reason) == ("row 0", str(caught.value))


def test_what_python_cannot_hold_quarantines_its_row_alone(tmp_path: Path) -> None:
    """The others of the same batch are read."""
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    pq.write_table(pa.table({"x": broken}), tmp_path / "rows.parquet")
    good, bad = file_rows(tmp_path / "rows.parquet")
    assert good.json_object() == {"x": "a"}
    with pytest.raises(RowError, match="cannot be read: 'utf-8' codec"):
        bad.json_object()


def test_a_footer_that_counts_wrongly_hides_no_row(tmp_path: Path) -> None:
    path, told = tmp_path / "rows.parquet", list[tuple[int, int]]()
    content = parquet([{"x": "a" * 3000}] * 3)
    # The number of rows, 3, and the list of two row groups that follows it.
    assert content.count(b"\x16\x06\x19\x2c") == 1
    path.write_bytes(content.replace(b"\x16\x06\x19\x2c", b"\x16\x00\x19\x2c"))
    assert len(list(file_rows(path, lambda done, total: told.append((done, total))))) == 3
    assert all(done <= total for done, total in told)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Else the last would be taken, without a word."""
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]), tmp_path / "rows.parquet")
    with pytest.raises(UnreadableFile, match="two columns of the name 'x'"):
        list(file_rows(tmp_path / "rows.parquet"))


def test_json_columns_within_others(tmp_path: Path) -> None:
    """As `datasets` writes its type Json."""
    inner = pa.StructArray.from_arrays([pa.array(['{"a": 1}', None, "[]"], pa.json_())], ["arguments"])
    nested = pa.ListArray.from_arrays(pa.array([0, 2, 3]), inner)
    pq.write_table(pa.table({"calls": nested}), tmp_path / "rows.parquet")
    one, two = (row.json_object()["calls"] for row in file_rows(tmp_path / "rows.parquet"))
    assert one == [{"arguments": {"a": 1}}, {"arguments": None}]
    assert two == [{"arguments": []}]


@pytest.mark.parametrize("container", ["lines", "gzip", "an array", "objects, printed", "Parquet"])
def test_progress_ends_at_the_size_of_the_file(tmp_path: Path, container: str) -> None:
    path = tmp_path / "rows"
    rows = [replace_words(row, "word " * 500) for row in ROWS["xlam"]] * 400
    path.write_bytes(CONTAINERS[container](rows))
    heard: list[tuple[int, int]] = []
    assert sum(1 for _ in file_rows(path, lambda done, total: heard.append((done, total)))) == 1200
    assert heard == sorted(heard)
    assert heard[-1] == (path.stat().st_size // 1000,) * 2


def replace_words(row: dict[str, Any], words: str) -> dict[str, Any]:
    return {**row, "query": words}


def test_ids_are_those_of_lines_without_blanks(tmp_path: Path) -> None:
    rows = read(tmp_path, "jsonl", array(ROWS["jsonl"]))
    assert [row.id for row in rows] == ["jsonl_1_1", "jsonl_2_1", "jsonl_3_1"]
    assert replace(rows[0], id="") == replace(
        read(tmp_path, "jsonl", b"\n" + lines(ROWS["jsonl"]))[0], id="", group=rows[0].group
    )

"""Files read a row at a time hold what the json module reads at once, however they are cut into pieces."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.data import streams
from itool_pipeline.data.streams import UnreadableFile, json_array, json_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_an_array_in_pieces_is_the_array(rows: list[Any], piece: int, indent: int | None, ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "rows.json"
        path.write_text(f" {json.dumps(rows, indent=indent, ensure_ascii=ascii_only)} \n", encoding="utf-8")
        patch.setattr(streams, "CHUNK_BYTES", piece)
        assert list(json_array(path)) == rows


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("text", "before", "reason"),
    [
        ("", 0, "must hold a JSON list of rows"),
        ('{"a": 1}', 0, "must hold a JSON list of rows"),
        ("[1, 2", 2, "`,` or `]` expected after row 1, found ''"),
        ("[12 34]", 1, "`,` or `]` expected after row 0, found '3'"),
        ("[1, {]", 1, "row 1: "),
        ("[1,]", 1, "row 1: "),
        ("[1] 2", 1, "something after the list"),
        ("[1, " + "[" * 100_000, 1, "row 1: "),
    ],
)
def test_damage_is_found_after_the_rows_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, before: int, reason: str, piece: int
) -> None:
    if len(text) > 1000 and piece < 1000:
        pytest.skip("a hundred thousand pieces")
    path = tmp_path / "rows.json"
    path.write_text(text)
    monkeypatch.setattr(streams, "CHUNK_BYTES", piece)
    found = []
    with pytest.raises(UnreadableFile, match=r"rows\.json: ") as caught:
        found.extend(row for row in _each(path))
    assert reason in str(caught.value)
    assert len(_until_damage(path)) == before


def _each(path: Path) -> list[Any]:
    return list(json_array(path))


def _until_damage(path: Path) -> list[Any]:
    found: list[Any] = []
    try:
        for row in json_array(path):
            found.append(row)
    except UnreadableFile:
        pass
    return found


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b'["\xff"]')
    with pytest.raises(UnreadableFile, match=r"rows\.json: not UTF-8"):
        list(json_array(tmp_path / "rows.json"))


@pytest.mark.parametrize("piece", [1, 2, 1 << 20])
def test_a_byte_order_mark_is_no_part_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", piece)
    (tmp_path / "rows.json").write_text('["\ufeff", 2]', encoding="utf-8-sig")
    assert list(json_array(tmp_path / "rows.json")) == ["\ufeff", 2]
    (tmp_path / "rows.jsonl").write_text("\n1\n\ufeff2", encoding="utf-8-sig")
    assert list(json_lines(tmp_path / "rows.jsonl")) == [(2, b"1\n"), (3, "\ufeff2".encode())]


@pytest.mark.parametrize("text", ["[NaN, -Infinity, 1e400]", "[18446744073709551616, -0.0]", r'["\ud800"]'])
def test_rows_that_a_stricter_parser_refuses_or_changes(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.json").write_text(text)
    assert repr(list(json_array(tmp_path / "rows.json"))) == repr(json.loads(text))


def test_lines_have_their_numbers_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n\n  \n\xff\r\nlast')
    assert list(json_lines(tmp_path / "rows.jsonl")) == [(1, b'{"a": 1}\n'), (4, b"\xff\r\n"), (5, b"last")]


@pytest.mark.parametrize("read", [json_array, json_lines])
def test_progress_is_in_kilobytes_and_ends_at_the_end(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "rows"
    path.write_text("[" + ",\n".join(["1" * 99] * 100_000) + "]")
    heard: list[tuple[int, int]] = []
    assert sum(1 for _ in read(path, lambda done, total: heard.append((done, total)))) == 100_000
    assert heard[-1] == (10_100, 10_100) == (heard[-1][1], path.stat().st_size // 1000)
    assert heard == sorted(heard)
    assert 5 < len(heard) < 15


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("read", [json_lines, json_array])
def test_a_row_that_does_not_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, whole: bool
) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(streams, "ROW_BYTES", 1 << 20)
    path, most = tmp_path / "rows.json.gz", (1 << 20) - len('""\n')
    long = json.dumps("x" * most) if whole else '"' + "x" * 8 * most
    path.write_bytes(gzip.compress((f"1\n{long}\n" if read is json_lines else f"[1, {long}]").encode()))
    rows = read(path)
    assert next(rows) in (1, (1, b"1\n"))
    if whole:
        assert next(rows) in (json.loads(long), (2, f"{long}\n".encode()))
    else:
        with pytest.raises(UnreadableFile, match=r"rows\.json\.gz: (line 2|row 1) is longer than 1 MiB"):
            next(rows)


def test_damage_in_a_long_array_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(streams, "ROW_BYTES", 1 << 16)
    path = tmp_path / "rows.json"
    path.write_text('[1, {"a": 2 "b": 3}, ' + ", ".join(["4"] * (1 << 18)) + "]")
    rows = json_array(path)
    assert next(rows) == 1
    with pytest.raises(UnreadableFile, match=r"row 1 is longer than 0 MiB, or never ends: Expecting ',' delimiter"):
        next(rows)

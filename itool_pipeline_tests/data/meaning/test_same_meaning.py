"""A conversation means the same in every spelling that is read: the same tools, context, answer and gold calls."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itool_pipeline.core.types import Example, no_progress
from itool_pipeline.data.layouts import read_any_layout
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import FileReader
from itool_pipeline.data.toolace import read_toolace
from itool_pipeline.data.xlam import read_xlam
from itool_pipeline_tests.data.meaning.conversations import (
    Conversation,
    Expected,
    conversations,
    expected_examples,
)
from itool_pipeline_tests.data.meaning.spellings import (
    SPELLINGS,
    bare_tools,
    calls_json,
    openai,
    text_of,
    wrapped_tools,
)

_FEW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_MANY = settings(_FEW, max_examples=2000)


def as_expected(example: Example) -> Expected:
    gold = [(call.name, {name: value for name, (value,) in call.arguments.items()}) for call in example.gold]
    return Expected(list(example.tools), [(m.role, m.content) for m in example.messages], example.response, gold)


def require_meaning(path: Path, want: Sequence[Expected], read: FileReader = read_any_layout) -> None:
    rows = list(read(path, no_progress))
    refused = [row for row in rows if isinstance(row, Quarantined)]
    assert not refused, f"refused: {refused}"
    got = [as_expected(row) for row in rows if isinstance(row, Example)]
    assert len(got) == len(want), f"{[g.response for g in got]} instead of {[w.response for w in want]}"
    for one, other in zip(got, want, strict=True):
        assert one == other
        # 1 == True and 1 == 1.0 in Python: the values' types count, too.
        assert json.dumps(one.gold) == json.dumps(other.gold)


def require_same(spelling: str, conversation: Conversation, folder: Path) -> None:
    row = SPELLINGS[spelling](conversation)
    if row is None:
        return
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n")
    require_meaning(path, expected_examples(conversation))


Row = dict[str, Any]


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


CONTAINERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "lines.jsonl": _lines,
    "no_line_break_at_the_end.jsonl": lambda rows: _lines(rows).rstrip(),
    "windows.jsonl": lambda rows: b"\xef\xbb\xbf" + _lines(rows).replace(b"\n", b"\r\n"),
    "blank_lines.jsonl": lambda rows: b"\n" + _lines(rows).replace(b"\n", b"\n\n"),
    "array_in_a_line.json": lambda rows: json.dumps(rows).encode(),
    "array.json": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "array_with_a_mark.jsonl": lambda rows: b"\xef\xbb\xbf" + json.dumps(rows).encode(),
    "lines.jsonl.gz": lambda rows: gzip.compress(_lines(rows)),
    "array.json.gz": lambda rows: gzip.compress(json.dumps(rows, indent=1).encode()),
    "gzip_under_another_name.jsonl": lambda rows: gzip.compress(_lines(rows)),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_changes_nothing(container: str, tmp_path: Path) -> None:
    @_FEW
    @given(several=st.lists(conversations(), min_size=1, max_size=3))
    def check(several: list[Conversation]) -> None:
        path = tmp_path / container
        path.write_bytes(CONTAINERS[container]([openai(conversation) for conversation in several]))
        require_meaning(path, [example for one in several for example in expected_examples(one)])

    check()


def test_parquet_changes_nothing(tmp_path: Path) -> None:
    """Arrow gives every record the keys of all: what the rows did not have is null."""

    @_FEW
    @given(several=st.lists(conversations(), min_size=1, max_size=3))
    def check(several: list[Conversation]) -> None:
        path = tmp_path / "rows.parquet"
        rows = [{**openai(conversation), "tools": text_of(wrapped_tools(conversation))} for conversation in several]
        pq.write_table(pa.Table.from_pylist(rows), path)
        require_meaning(path, [example for one in several for example in expected_examples(one)])

    check()


def first_answer(conversation: Conversation) -> Expected:
    return expected_examples(conversation)[0]


@pytest.mark.parametrize("lines", [False, True])
def test_xlam_with_tools_as_openai_has_them(lines: bool, tmp_path: Path) -> None:
    """Its rows are one question without a system text, and calls."""

    @_FEW
    @given(conversation=conversations().filter(lambda c: not c.system and bool(c.exchanges[0].rounds)))
    def check(conversation: Conversation) -> None:
        first = conversation.exchanges[0]
        row = {
            "query": first.question,
            "tools": text_of(wrapped_tools(conversation)),
            "answers": text_of(calls_json(first.rounds[0])),
        }
        path = tmp_path / "rows.json"
        path.write_bytes(_lines([row]) if lines else json.dumps([row]).encode())
        require_meaning(path, [first_answer(conversation)], read_xlam)

    check()


@pytest.mark.parametrize("lines", [False, True])
def test_toolace(lines: bool, tmp_path: Path) -> None:
    """Its rows hold the tools in the system text and the calls as Python has them."""

    @_FEW
    @given(conversation=conversations().filter(lambda c: not c.system))
    def check(conversation: Conversation) -> None:
        first, want = conversation.exchanges[0], first_answer(conversation)
        intro = "Here is a list of functions in JSON format that you can invoke:\n"
        row = {
            "system": intro + text_of(bare_tools(conversation)) + ".",
            "conversations": [{"from": "user", "value": first.question}, {"from": "assistant", "value": want.response}],
        }
        path = tmp_path / "rows.json"
        path.write_bytes(_lines([row]) if lines else json.dumps([row]).encode())
        require_meaning(path, [want], read_toolace)

    check()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_changes_nothing(spelling: str, tmp_path: Path) -> None:
    @_FEW
    @given(conversation=conversations())
    def check(conversation: Conversation) -> None:
        require_same(spelling, conversation, tmp_path)

    check()


@pytest.mark.fuzz
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_spelling_changes_nothing_in_many_conversations(spelling: str, tmp_path: Path) -> None:
    @_MANY
    @given(conversation=conversations())
    def check(conversation: Conversation) -> None:
        require_same(spelling, conversation, tmp_path)

    check()

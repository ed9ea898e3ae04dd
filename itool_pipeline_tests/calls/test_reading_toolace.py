"""Every assistant turn of the real ToolACE rows is parsed, or has a reason why not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.calls.reading import looks_like_call, parse_calls, parse_response
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import ToolCallSyntaxError

FILE = Path(__file__).parents[2] / "../shared/data/toolace/data.json"
OTHER_FORMAT = "Please use the following format to call the tool"


def _rows() -> list[dict[str, Any]]:
    if not FILE.exists():
        pytest.skip("needs the ToolACE rows in ../shared/data/toolace, which are not here")
    rows: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return rows


def _tool_names(system: str) -> list[str]:
    start = system.find('[{"name"')
    return [tool["name"] for tool in json.JSONDecoder().raw_decode(system, start)[0]] if start >= 0 else []


def _kind(turn: str, system: str) -> str:
    """`call`, `text`, or why a turn with calls cannot be read: judged by its outside only, without the parser."""
    if OTHER_FORMAT in system and turn[:1] in "[{<(" and turn[-1:] in "]}>)":
        return "the system text asks for another format"
    if turn.startswith("[") and turn.endswith("]"):
        return "call"
    if re.search(r"\[\w+\(\w+=", turn):
        return "text and calls in one turn"
    return "text" if turn else "empty"


def test_every_call_turn_parses_or_has_a_reason() -> None:
    kinds: Counter[str] = Counter()
    parsed, unparsed = 0, []
    for index, row in enumerate(_rows()):
        names = _tool_names(row["system"])
        for turn in row["conversations"]:
            if turn["from"] != "assistant":
                continue
            text = turn["value"].strip()
            kind = _kind(text, row["system"])
            kinds[kind] += 1
            try:
                calls = parse_calls(text, names)
            except ToolCallSyntaxError as error:
                if kind == "call":
                    unparsed.append((index, str(error), text))
                continue
            assert kind == "call", (index, text)
            parsed += 1
            assert parse_calls(render_calls(calls), names) == calls
            assert parse_response(text, names, quirks=True) == calls
            assert looks_like_call(text)
            assert not names or {call.name for call in calls} <= set(names)
    assert unparsed == []
    assert parsed == kinds["call"]
    assert kinds == {
        "call": 804,
        "text": 258,
        "the system text asks for another format": 31,  # a format of each row's own, e.g. [f=>{a--'1'; b--'2'}]
        "text and calls in one turn": 1,
        "empty": 1,
    }

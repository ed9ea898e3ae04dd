"""Gemini's contents: parts as messages, calls and results, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from itool_pipeline.data.conversations.gemini import gemini_row, is_gemini
from itool_pipeline.data.rows import RowError


def content(role: str, *parts: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


CALL = {"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}}
RESULT = {"functionResponse": {"name": "get_weather", "response": {"degrees": 3}}}


def test_a_whole_row() -> None:
    changes: Counter[str] = Counter()
    schema = {"type": "OBJECT", "properties": {"type": {"type": "STRING", "enum": ["STRING"]}}}
    row = {
        "systemInstruction": {"role": "system", "parts": [{"text": "Be "}, {"text": "brief."}]},
        "contents": [
            content("user", {"text": "Oslo?"}),
            content("model", {"text": "I look.", "thought": True}, CALL),
            content("user", RESULT, {"functionResponse": {"name": "g", "response": {"output": "noon"}}}),
            content("user", {"functionResponse": {"name": "h", "response": {"output": "", "error": "x"}}}),
            content("model", {"text": "3 "}, {"text": "degrees."}),
        ],
        "tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": schema}]}],
        "id": 7,
    }
    result = {"role": "tool", "tool_call_id": None}
    lowered = {"type": "object", "properties": {"type": {"type": "string", "enum": ["STRING"]}}}
    assert gemini_row(row, changes) == {
        "id": 7,
        "system": "Be brief.",
        "tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": lowered}]}],
        "messages": [
            {"role": "user", "content": "Oslo?"},
            {"role": "model", "content": "", "tool_calls": [CALL["functionCall"]]},
            {**result, "name": "get_weather", "content": {"degrees": 3}},
            {**result, "name": "g", "content": "noon"},
            {**result, "name": "h", "content": {"output": "", "error": "x"}},
            {"role": "model", "content": "3 degrees."},
        ],
    }
    assert changes == {"thoughts before an answer left out": 1}


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("text", "the contents are not a list"),
        (["text"], "a content is not an object"),
        ([{"role": 3, "parts": []}], "a content has an unknown role: 3"),
        ([{"role": "user"}], "the parts of a content are not a list"),
        ([content("user", "text")], "a part is not an object"),
        ([content("user", {"inlineData": {"data": ""}})], "a part has `inlineData`, which is not read"),
        ([content("user", {"text": ["x"]})], "the text of a part is not text"),
        ([content("user", RESULT, {"text": "x"})], "a content holds results beside other parts"),
        ([content("user", {"functionResponse": "x"})], "a result is not an object"),
        ([content("model", {**CALL, "function_call": {"name": "g"}})], "a part has both `functionCall` and"),
    ],
)
def test_what_is_refused(contents: Any, reason: str) -> None:
    with pytest.raises(RowError) as refused:
        gemini_row({"contents": contents}, Counter())
    assert str(refused.value).startswith(reason)


def test_what_is_taken_for_it() -> None:
    assert is_gemini({"contents": [content("user", {"text": "x"})]})
    assert not is_gemini({"contents": "text"})
    assert not is_gemini({"contents": [{"role": "user"}]})
    assert not is_gemini({"messages": []})

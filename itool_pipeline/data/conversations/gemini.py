"""Gemini's layout, as its API and Vertex AI have it: `contents`, whose `parts` are text, calls or results."""

from __future__ import annotations

from collections import Counter
from typing import Any

from itool_pipeline.data.conversations.known_keys import THOUGHTS_LEFT_OUT, Keys, agreed_value, is_absent
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that

_CALLS, _RESULTS = ("functionCall", "function_call"), ("functionResponse", "function_response")
_BESIDE = frozenset({"thoughtSignature", "thought_signature", "thought"})
_TYPES = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"})


def is_gemini(row: Keys) -> bool:
    """Whether a row looks like one of this layout."""
    contents = row.get("contents")
    return isinstance(contents, list) and any(isinstance(one, dict) and "parts" in one for one in contents)


def gemini_row(row: Keys, changes: Counter[str]) -> dict[str, Any]:
    """The row with `messages` in the place of its contents, and the types of its tools as JSON Schema has them.

    Raises RowError for what is not read.
    """
    contents = row.get("contents")
    expect_that(isinstance(contents, list), f"the contents are not a list: {shown_value(contents)}")
    messages = [message for one in contents or [] for message in _messages(one, changes)]
    others = {key: value for key, value in row.items() if key not in ("contents", "systemInstruction")}
    system = row.get("systemInstruction")
    if not is_absent(system):
        others["system"] = _text_of(system)
    if not is_absent(row.get("tools")):
        others["tools"] = _lower_types(row["tools"])
    return {**others, "messages": messages}


def _messages(content: Any, changes: Counter[str]) -> list[dict[str, Any]]:
    """One content as a message, and its results as messages of their own."""
    expect_that(isinstance(content, dict), f"a content is not an object: {shown_value(content)}")
    role, parts = content.get("role", "user"), content.get("parts")
    expect_that(isinstance(role, str), f"a content has an unknown role: {shown_value(role)}")
    expect_that(isinstance(parts, list), f"the parts of a content are not a list: {shown_value(parts)}")
    text, calls, results = "", [], []
    for part in parts:
        expect_that(isinstance(part, dict), f"a part is not an object: {shown_value(part)}")
        call, result = agreed_value(part, _CALLS, "a part"), agreed_value(part, _RESULTS, "a part")
        known = {*_CALLS, *_RESULTS, *_BESIDE, "text"}
        unread = [key for key, value in part.items() if key not in known and value is not None]
        expect_that(not unread, f"a part has `{', '.join(unread)}`, which is not read")
        if part.get("thought") is True:
            changes[THOUGHTS_LEFT_OUT] += 1
        elif call is not None:
            calls.append(call)
        elif result is not None:
            results.append(_result(result))
        else:
            text += _words(part)
    expect_that(not (results and (text or calls)), "a content holds results beside other parts")
    return results or [{"role": role, "content": text, **({"tool_calls": calls} if calls else {})}]


def _words(part: Keys) -> str:
    said = part.get("text", "")
    if not isinstance(said, str):
        raise RowError(f"the text of a part is not text: {shown_value(said)}")
    return said


def _result(given: Any) -> dict[str, Any]:
    """A result as a message. The API says that a response of nothing but `output` is what that holds."""
    expect_that(isinstance(given, dict), f"a result is not an object: {shown_value(given)}")
    response = given.get("response")
    said = response["output"] if isinstance(response, dict) and response.keys() == {"output"} else response
    return {"role": "tool", "name": given.get("name"), "tool_call_id": given.get("id"), "content": said}


def _text_of(system: Any) -> Any:
    """The text of a system instruction: its parts joined; a text is one."""
    if not isinstance(system, dict):
        return system
    (message,) = _messages({"parts": system.get("parts"), "role": "system"}, Counter()) or [{}]
    expect_that("tool_calls" not in message, "a system instruction makes calls")
    return message.get("content")


def _lower_types(given: Any) -> Any:
    """The value with each `"type": "STRING"` as JSON Schema spells it."""
    if isinstance(given, list):
        return [_lower_types(one) for one in given]
    if not isinstance(given, dict):
        return given
    return {
        key: value.lower() if key == "type" and isinstance(value, str) and value in _TYPES else _lower_types(value)
        for key, value in given.items()
    }

"""The well-known names of chats' spellings, for telling a person what a file holds. Reading asks for none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import Keys, is_absent
from itool_pipeline.data.conversations.message_spellings import CALL, role_of
from itool_pipeline.data.rows import RowError

_IN_WORDS = (
    (re.compile(r"<tool_call>"), "Hermes, calls between <tool_call> in the text"),
    (re.compile(r"<functioncall>"), "Glaive's <functioncall> in messages"),
    (re.compile(r"\[TOOL_CALLS\]"), "Mistral's [TOOL_CALLS] in the text"),
    (re.compile(r"^[ \t]*Action[ _]Input[ \t]*:", re.M), "ReAct, Action and Action Input in the text"),
)
_IN_PARTS = {
    "tool_use": "Anthropic, parts tool_use and tool_result",
    "tool_call": "LLaMA-Factory's parts, tool_call with a value",
    "tool-call": "AI SDK, parts tool-call and tool-result",
}


def spelling_of(row: Keys) -> str:
    """What a chat's spelling is called, by how it writes its calls; else by where it has what is said."""
    messages = list(_messages(row))
    if all(not is_absent(row.get(key)) for key in ("prompt", "completion")):
        return f"TRL's prompt and completion, {_calls_of(messages) or 'plain'}"
    if not is_absent(row.get("instruction")):
        return "Alpaca, instruction and output"
    return _calls_of(messages) or ("plain ShareGPT" if any("from" in one for one in messages) else "plain messages")


def _calls_of(messages: list[Keys]) -> str:
    """The name for how calls are written; empty where there are none, or in a way without a name."""
    for message in messages:
        where = "ShareGPT" if "from" in message else "OpenAI chat"
        if not is_absent(message.get("tool_calls")):
            return f"{where}, tool_calls"
        if not is_absent(message.get("function_call")):
            return f"{where}, function_call (the legacy one)"
        if _role(message) == CALL:
            name = message.get("from", message.get("role", message.get("type")))
            return f"{'ShareGPT' if 'from' in message else 'messages'}, turns of the role {name}"
        found = _in_content(message) if _role(message) == "assistant" else ""
        if found:
            return found
    return ""


def _in_content(message: Keys) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        kinds = [part.get("type") for part in content if isinstance(part, dict)]
        return next((_IN_PARTS[kind] for kind in kinds if isinstance(kind, str) and kind in _IN_PARTS), "")
    return next((name for tag, name in _IN_WORDS if isinstance(content, str) and tag.search(content)), "")


def _role(message: Keys) -> str:
    try:
        return role_of(message)
    except RowError:
        return ""


def _messages(row: Keys) -> Iterator[Keys]:
    for key in ("messages", "conversations", "conversation", "prompt", "completion"):
        given: Any = row.get(key)
        if key not in ("prompt", "completion"):
            try:
                given = decoded_value(given, "not JSON")
            except RowError:
                continue
        yield from (one for one in given if isinstance(one, dict)) if isinstance(given, list) else ()

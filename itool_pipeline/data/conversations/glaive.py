"""Glaive's layout: a whole conversation as one text, in which `USER:`, `ASSISTANT:` and `FUNCTION RESPONSE:` speak.

Version 2 has the tools in `system` and what is said in `chat`; version 1 has both in `sample`. Calls stand behind
`<functioncall>`, and `<|endoftext|>` ends what the assistant says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from itool_pipeline.data.conversations.known_keys import Keys, is_absent
from itool_pipeline.data.conversations.tools_in_text import TOOLS_FROM_TEXT
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that

_ROLES = {"SYSTEM": "system", "USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_SPEAKERS = "SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE"
_LINE = re.compile(rf"^[ \t]*(?P<who>{_SPEAKERS}):", re.M)
_END = "<|endoftext|>"
_APART = re.compile(r"(?:\n[ \t\r]*\n|<\|endoftext\|>)\s*\Z")
_GAP_CHARS = 64
_BETWEEN = re.compile(r"[\s,;]*")
_DECODER = json.JSONDecoder()
_INTRODUCES_TOOLS = re.compile(
    r"You are an? helpful assistant (?:with access|who has access) to the following functions[^\n]*?"
    r"(?:Use them if required|use the functions if needed)[ \t]*-[ \t]*"
)
"""The set's own sentence before the tools: how to call is left to our own prompt."""


def is_glaive(row: Keys) -> bool:
    """Whether a row looks like one of this layout: the text of a conversation under `chat` or `sample`."""
    return any(isinstance(row.get(key), str) and _LINE.search(row[key]) for key in ("chat", "sample"))


def glaive_row(row: Keys, changes: Counter[str]) -> dict[str, Any]:
    """The row with `messages` and `tools` in the place of its texts; its other keys stay.

    Raises RowError for a row without the texts, or one whose speakers cannot be told from what they say.
    """
    texts = [key for key in ("chat", "sample") if not is_absent(row.get(key))]
    expect_that(len(texts) == 1, "has not one conversation in `chat` or `sample`: " + (", ".join(texts) or "none"))
    text = row[texts[0]]
    expect_that(isinstance(text, str), f"`{texts[0]}` is not text: {shown_value(text)}")
    messages = _messages(text, apart=texts[0] == "chat")
    given = row.get("system")
    if not is_absent(given):
        if not isinstance(given, str):
            raise RowError(f"the system text is not text: {shown_value(given)}")
        spoken = messages[0]["role"] == "system"
        expect_that(not spoken, "has a system text twice: in `system` and in the conversation")
        messages = [{"role": "system", "content": re.sub(r"\A\s*SYSTEM:", "", given).strip()}, *messages]
    messages, tools = _without_tools(messages)
    changes[TOOLS_FROM_TEXT] += len(tools)
    others = {key: value for key, value in row.items() if key not in ("chat", "sample", "system")}
    return {**others, "messages": messages, **({"tools": tools} if tools else {})}


def _messages(text: str, apart: bool) -> list[dict[str, Any]]:
    """What each says, in order. `apart`: a blank line or an end token stands before each but the first."""
    found = list(_LINE.finditer(text))
    expect_that(bool(found), f"nobody speaks in the text: {shown_value(text)}")
    before = text[: found[0].start()].strip()
    expect_that(not before, f"something stands before the first who speaks: {shown_value(before)}")
    why = "a line begins as a speaker does, amid what another says"
    for speaker in found[1:] if apart else ():
        clear = _APART.search(text[max(0, speaker.start() - _GAP_CHARS) : speaker.start()])
        expect_that(clear is not None, f"{why}: {shown_value(speaker['who'])}")
    ends = [*(speaker.start() for speaker in found[1:]), len(text)]
    said = [(_ROLES[one["who"]], text[one.end() : end].strip()) for one, end in zip(found, ends, strict=True)]
    return [
        {"role": role, "content": _one_answer(content) if role == "assistant" else content} for role, content in said
    ]


def _one_answer(text: str) -> str:
    """The assistant's words without the token that ends them. Raises RowError when more follows behind it."""
    words = text.removesuffix(_END).rstrip()
    expect_that(_END not in words, f"something stands behind an end token: {shown_value(text)}")
    return words


def _without_tools(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The messages without the tools that the set's own sentence introduces, and without it, and these tools.

    Raises RowError where the sentence is there and what follows cannot be read.
    """
    text = str(messages[0]["content"])
    introduced = _INTRODUCES_TOOLS.search(text) if messages[0]["role"] == "system" else None
    if introduced is None:
        return messages, []
    tools, end = _json_values(text, introduced.end())
    rest = f"{text[: introduced.start()].strip()}\n{text[end:].strip()}".strip()
    return [*([{"role": "system", "content": rest}] if rest else []), *messages[1:]], tools


def _json_values(text: str, start: int) -> tuple[list[Any], int]:
    """The objects that stand one after the other from `start` on, also in lists, and where they end."""
    values: list[Any] = []
    while (start := _skip(text, start)) < len(text) and text[start] in "{[":
        try:
            value, start = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise RowError(f"the tools in the system text cannot be read: {shown_value(text[start:])}") from error
        values += value if isinstance(value, list) else [value]
    return values, start


def _skip(text: str, start: int) -> int:
    found = _BETWEEN.match(text, start)
    return found.end() if found else start

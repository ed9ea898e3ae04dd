"""Glaive's text: who says what in it, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from itool_pipeline.data.conversations.glaive import glaive_row, is_glaive
from itool_pipeline.data.rows import RowError

TOOL = {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}}
CLOCK = {"name": "clock", "description": "The time."}
INTRO = "You are a helpful assistant with access to the following functions. Use them if required -"
CALL = """<functioncall> {"name": "get_weather", "arguments": '{"city": "Oslo"}'}"""
CHAT = (
    f"USER: Oslo?\n\n\nASSISTANT: {CALL} <|endoftext|>\n\n\nFUNCTION RESPONSE: "
    '{"degrees": 3}\n\n\nASSISTANT: 3 degrees.\n\nCold. <|endoftext|>\n\n\n'
)
SAID = [
    {"role": "user", "content": "Oslo?"},
    {"role": "assistant", "content": CALL},
    {"role": "tool", "content": '{"degrees": 3}'},
    {"role": "assistant", "content": "3 degrees.\n\nCold."},
]


def read(row: dict[str, Any]) -> dict[str, Any]:
    return glaive_row(row, Counter())


def system_of(*tools: Any, behind: str = "") -> str:
    listed = "\n\n".join(json.dumps(tool, indent=4) for tool in tools)
    return f"SYSTEM: {INTRO}\n{listed}\n{behind}"


def test_version_2() -> None:
    changes: Counter[str] = Counter()
    row = glaive_row({"system": system_of(TOOL, CLOCK), "chat": CHAT, "id": 7}, changes)
    assert row == {"messages": SAID, "tools": [TOOL, CLOCK], "id": 7}
    assert changes == {"tools read out of a system text": 2}


def test_version_1_has_all_in_one_text_and_no_blank_lines() -> None:
    intro = (
        "You are an helpful assistant who has access to the following functions to help the user, you can use the "
        "functions if needed-"
    )
    text = f"SYSTEM: {intro}\n{json.dumps(TOOL, indent=4)}\nUSER: Oslo?\nASSISTANT: {CALL} <|endoftext|>\n"
    text += 'FUNCTION RESPONSE: {"degrees": 3}\nASSISTANT: 3 degrees.\n\nCold. <|endoftext|>\n'
    assert read({"sample": text}) == {"messages": SAID, "tools": [TOOL]}


def test_what_the_system_says_beside_the_tools_stays() -> None:
    first = {"role": "system", "content": "Today is Monday."}
    row = read({"system": system_of(TOOL, behind="\nToday is Monday."), "chat": CHAT})
    assert row == {"messages": [first, *SAID], "tools": [TOOL]}
    without = "You are a helpful assistant, with no access to external functions."
    row = read({"system": f"SYSTEM: {without}", "chat": "USER: Hi\n\n\nASSISTANT: Hello. <|endoftext|>"})
    assert row["messages"][0] == {"role": "system", "content": without}
    assert "tools" not in row


def test_lines_of_windows_and_a_missing_end_token() -> None:
    text = CHAT.replace(" <|endoftext|>", "").replace("\n", "\r\n")
    words = [message["content"].replace("\r\n", "\n") for message in read({"chat": text})["messages"]]
    assert words == [message["content"] for message in SAID]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"system": "SYSTEM: x"}, "has not one conversation in `chat` or `sample`: none"),
        ({"chat": CHAT, "sample": CHAT}, "has not one conversation in `chat` or `sample`: chat, sample"),
        ({"chat": [1]}, "`chat` is not text"),
        ({"chat": "Hello"}, "nobody speaks in the text"),
        ({"chat": "Hello\n\nUSER: Hi"}, "something stands before the first who speaks: 'Hello'"),
        ({"chat": "USER: See:\nASSISTANT: no\n\n\nASSISTANT: x"}, "a line begins as a speaker does, amid"),
        ({"chat": "USER: a\n\n\nASSISTANT: b <|endoftext|> c"}, "something stands behind an end token"),
        ({"chat": CHAT, "system": 3}, "the system text is not text: 3"),
        ({"chat": f"SYSTEM: a\n\n\n{CHAT}", "system": "b"}, "has a system text twice"),
        ({"chat": CHAT, "system": f"SYSTEM: {INTRO}\n{{'name': 'f'}}"}, "the tools in the system text cannot be read"),
        ({"chat": CHAT, "system": f"SYSTEM: {INTRO}\n{'[' * 99999}"}, "the tools in the system text cannot be read"),
    ],
)
def test_what_is_refused(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as refused:
        read(row)
    assert str(refused.value).startswith(reason)


def test_what_is_taken_for_it() -> None:
    assert is_glaive({"chat": CHAT})
    assert is_glaive({"sample": f"SYSTEM: x\n{CHAT}"})
    assert not is_glaive({"chat": "Hello"})
    assert not is_glaive({"chat": [{"role": "user"}]})
    assert not is_glaive({"messages": CHAT})

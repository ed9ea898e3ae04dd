"""The users' own conversations: every assistant turn an example, or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.types import Message
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.rows import Rows
from itool_pipeline_tests.data.examples import gathered
from itool_pipeline_tests.judges.by_source import JUDGE

WEATHER = {
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"name": "clock"}
TOOLS = [{"type": "function", "function": WEATHER}, CLOCK]


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(*made: tuple[str, Any], **more: Any) -> dict[str, Any]:
    entries = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(made)
    ]
    return {"role": "assistant", "content": None, "tool_calls": entries, **more}


def result(text: Any, call: str = "c0") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": text}


def load(folder: Path, *lines: Any) -> Rows:
    path = folder / "own.jsonl"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts))
    return gathered(chat_rows(file_rows(path)))


def conversation(*messages: Any, tools: Any = TOOLS) -> dict[str, Any]:
    return {"messages": list(messages), "tools": tools, "id": "not looked at"}


def test_one_example_for_each_assistant_turn(tmp_path: Path) -> None:
    rows = load(
        tmp_path,
        conversation(
            {"role": "developer", "content": "Be brief."},
            user("Is it warm in Rome and Oslo, and how late is it?"),
            calls(("get_weather", '{"city": "Rome"}'), ("get_weather", {"city": "Oslo"}), ("clock", "")),
            result("31", "c0"),
            result([{"type": "text", "text": "3"}], "c1"),
            {"role": "tool", "name": "clock", "content": "noon"},
            says(" Rome yes, Oslo no, noon. "),
            user("And in Bonn?"),
            calls(("get_weather", {"city": "Bonn"}), content="Let me see."),
            result("12"),
            says("No."),
        ),
    )
    assert rows.quarantined == ()
    first, second, third, fourth = rows.examples
    context = (
        Message("system", "Be brief."),
        Message("user", "Is it warm in Rome and Oslo, and how late is it?"),
    )
    assert first.messages == context
    assert first.response == '[get_weather(city="Rome"), get_weather(city="Oslo"), clock()]'
    assert first.gold[1] == GoldCall("get_weather", {"city": ("Oslo",)})
    assert (first.id, first.category, first.group) == ("jsonl_1_2", "several_calls", "jsonl_1")
    assert second.messages == (
        *context,
        Message("assistant", first.response),
        Message("tool", 'get_weather(city="Rome"): 31\nget_weather(city="Oslo"): 3\nclock: noon'),
    )
    assert (second.response, second.category, second.gold) == ("Rome yes, Oslo no, noon.", "no_call", ())
    assert third.messages[-1] == Message("user", "And in Bonn?")
    assert third.response == '[get_weather(city="Bonn")]'
    assert fourth.messages[-2:] == (Message("assistant", third.response), Message("tool", "12"))
    assert {e.group for e in rows.examples} == {"jsonl_1"}
    assert first.tools == (
        WEATHER,
        {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}},
    )


def test_an_argument_of_empty_text_must_be_given(tmp_path: Path) -> None:
    (example,) = load(tmp_path, conversation(user("q"), calls(("get_weather", {"city": ""})))).examples
    assert JUDGE.verdict(example, '[get_weather(city="")]').correct
    assert not JUDGE.verdict(example, "[get_weather()]").correct


def test_tools_may_be_left_out_or_null_in_plain_chat(tmp_path: Path) -> None:
    chat = [user("q"), says("a")]
    rows = load(tmp_path, {"messages": chat}, conversation(*chat, tools=None), conversation(*chat, tools=[]))
    assert rows.quarantined == ()
    assert [(e.response, e.tools, e.category) for e in rows.examples] == [("a", (), "no_call")] * 3


def test_lines_are_numbered_and_blank_ones_passed_over(tmp_path: Path) -> None:
    good = conversation(user("q"), says("a"))
    rows = load(tmp_path, good, b"", b"  ", good, b"{", good)
    assert [e.id for e in rows.examples] == ["jsonl_1_1", "jsonl_4_1", "jsonl_6_1"]
    assert [(q.position, q.excerpt) for q in rows.quarantined] == [("line 5", "{")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": "\xff"}', "not UTF-8"),
        (b"[1", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        ({"messages": []}, "no messages"),
        (conversation(user("q"), says("a"), tools={}), "the tools are not a list: {}"),
        (conversation(user("q"), says("a"), tools="3"), "the tools are not a list: 3"),
        (conversation(), "no messages"),
        (conversation(3), "a message is not an object"),
        (conversation(user("q")), "no assistant turn"),
        (conversation(user("q"), {"role": "narrator", "content": ""}), "a message has an unknown role: 'narrator'"),
        (conversation(user("q"), {"role": "\ud800"}), r"a message has an unknown role: '\ud800'"),
        (conversation(user("q"), {"content": "a"}), "a message has no role"),
        (conversation(user(3), says("a")), "the content of a message is not text"),
        (conversation(user([{"type": "image_url"}]), says("a")), "a message holds something else than text"),
        (conversation(user("q"), {"role": "assistant", "function_call": {}}), "a call has no function"),
        (conversation(user("q"), calls(("clock", "{"))), "the arguments of a call are not JSON: 'clock'"),
        (conversation(user("q"), calls(("clock", [1]))), "the arguments of a call are not an object: 'clock'"),
        (conversation(user("q"), {"role": "assistant", "tool_calls": [{}]}), "a call has no function"),
        (
            conversation(user("q"), {"role": "assistant", "tool_calls": 3}),
            "the tool calls of a message are not a list: 3",
        ),
        (
            conversation({**calls(("clock", {})), "role": "user"}, says("a")),
            "calls are made by another than the assistant: user",
        ),
        (conversation(user("q"), says("a"), tools=[3]), "a tool is not an object"),
        (conversation(user("q"), says("a"), tools=[{"type": "function"}]), "a tool has no name"),
        (
            conversation(user("q"), says("a"), tools=[{"name": "f", "parameters": [1]}]),
            "the parameters of a tool are not an object: 'f' has [1]",
        ),
    ],
)
def test_lines_that_cannot_be_read_are_quarantined_with_the_reason(tmp_path: Path, line: Any, reason: str) -> None:
    rows = load(tmp_path, conversation(user("q"), says("a")), line)
    assert [e.id for e in rows.examples] == ["jsonl_1_1"]
    (bad,) = rows.quarantined
    assert (bad.source, bad.position) == ("jsonl", "line 2")
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(""), "the answer is empty"),
        (says(None), "the answer is empty"),
        (calls(("sundial", {})), "calls what is not among the tools: ['sundial']"),
        (says("<think>hm</think>"), "the answer is nothing but thoughts"),
        (calls(("clock", {"a": "\ud800"})), "holds half a character"),
    ],
)
def test_an_answer_that_is_no_use_leaves_the_others(tmp_path: Path, answer: Any, reason: str) -> None:
    rows = load(tmp_path, conversation(user("q"), answer, user("more"), says("fine")))
    (bad,) = rows.quarantined
    assert bad.position == "line 1, turn 1"
    assert bad.reason.startswith(reason)
    assert [e.response for e in rows.examples] == ["fine"]

"""What the turns of a conversation mean: one conversation gives the same examples however its turns are written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.conversations.tools_in_text import tools_in_text
from itool_pipeline.data.rows import Changed, PassedOver, Quarantined, Row

WEATHER = {
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [WEATHER, {"name": "clock"}]
CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
GOLD = '[get_weather(city="Oslo")]'
QUESTION = {"role": "user", "content": "q"}


def read(folder: Path, *messages: dict[str, Any], tools: Any = TOOLS, **keys: Any) -> list[Row]:
    path = folder / "own.jsonl"
    path.write_text(json.dumps({"messages": messages, "tools": tools, **keys}) + "\n")
    return list(chat_rows(file_rows(path)))


def examples(rows: list[Row]) -> list[Example]:
    assert [row for row in rows if isinstance(row, Quarantined)] == []
    return [row for row in rows if isinstance(row, Example)]


def changes(rows: list[Row]) -> Counter[str]:
    return Counter({row.what: row.times for row in rows if isinstance(row, Changed)})


def says(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def calls(*made: tuple[Any, str, dict[str, Any]], content: Any = None, **more: Any) -> dict[str, Any]:
    entries = [{"id": i, "type": "function", "function": {"name": name, "arguments": a}} for i, name, a in made]
    return {"role": "assistant", "content": content, "tool_calls": entries, **more}


def result(text: str, identity: Any = None, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": identity, **more}


OSLO = calls(("c1", "get_weather", {"city": "Oslo"}))
PLAIN = (QUESTION, OSLO, result("3", "c1"), says("3 degrees."))


@pytest.mark.parametrize(
    "messages",
    [
        (QUESTION, says(f"<tool_call>\n{CALL}\n</tool_call>"), result("3"), says("3 degrees.")),
        (QUESTION, says(CALL), result("3", name="get_weather"), says("3 degrees.")),
        (QUESTION, says(GOLD), result("3"), says("3 degrees.")),
        (QUESTION, says("Let me look."), OSLO, result("3", "c1"), says("3 degrees.")),
        (QUESTION, says(f"Let me look.\n<tool_call>{CALL}</tool_call>"), result("3"), says("3 degrees.")),
        (QUESTION, says("Let me look."), says(CALL), result("3"), says("3 degrees.")),
        (QUESTION, OSLO, OSLO, result("3", "c1"), says("3 degrees."), says("3 degrees.")),
        (QUESTION, says("<think>hm</think>"), OSLO, result("3", "c1"), says("<think>3!</think>\n\n3 degrees.")),
        (QUESTION, {**OSLO, "reasoning_content": "hm"}, result("3", "c1"), says("3 degrees.", thinking="3!")),
        (QUESTION, {**OSLO, "content": "<think>hm</think>One moment."}, result("3", "c1"), says("3 degrees.")),
        (QUESTION, says(f"<think>hm</think>\n<tool_call>{CALL}</tool_call>"), result("3"), says("3 degrees.")),
        (QUESTION, says(f"{CALL}<|im_end|>"), result("3"), says("3 degrees. <|endoftext|>\n</s>")),
        (QUESTION, OSLO, result("<tool_response>\n3\n</tool_response>"), says("3 degrees.")),
        (QUESTION, OSLO, {"role": "user", "content": "<tool_response>3</tool_response>"}, says("3 degrees.")),
        (QUESTION, OSLO, {"role": "user", "content": "<TOOL_RESPONSE>3</TOOL_RESPONSE>"}, says("3 degrees.")),
        (
            QUESTION,
            says(f"<tool_call>{CALL}</tool_call>"),
            result('<tool_response>{"name": "get_weather", "content": "3"}</tool_response>'),
            says("3 degrees."),
        ),
        (
            QUESTION,
            says('Thought: hm\nAction: get_weather\nAction Input: {"city": "Oslo"}'),
            {"role": "user", "content": "Observation: 3"},
            says("Thought: I know.\nFinal Answer: 3 degrees."),
        ),
    ],
)
def test_one_conversation_however_it_is_written(tmp_path: Path, messages: tuple[dict[str, Any], ...]) -> None:
    expected = examples(read(tmp_path, *PLAIN))
    assert [e.response for e in expected] == [GOLD, "3 degrees."]
    assert expected[1].messages == (Message("user", "q"), Message("assistant", GOLD), Message("tool", "3"))
    assert examples(read(tmp_path, *messages)) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"<tools>{json.dumps(TOOLS)}</tools>",
        "<tools>\n" + "\n".join(json.dumps({"type": "function", "function": tool}) for tool in TOOLS) + "\n</tools>",
        f"Be brief.\n[AVAILABLE_TOOLS] {json.dumps([{'type': 'function', 'function': t} for t in TOOLS])}"
        "[/AVAILABLE_TOOLS]",
        f"You have access to the following tools: {[WEATHER, {'name': 'clock', 'parameters': {}}]}\nDon't guess.",
        "You may use these. -\n" + json.dumps(WEATHER) + "\n\n" + json.dumps({"name": "clock", "parameters": {}}),
        "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML "
        f"tags. Here are the available tools: <tools> {json.dumps(TOOLS)} </tools> Use the following pydantic model "
        'json schema for each tool call you will make: {"properties": {"name": {"title": "Name"}}, "title": '
        '"FunctionCall"} For each function call return a json object with function name and arguments within '
        '<tool_call></tool_call> XML tags as follows:\n<tool_call>\n{"arguments": <args-dict>, "name": '
        "<function-name>}\n</tool_call>",
    ],
)
def test_tools_may_stand_in_the_system_text(tmp_path: Path, text: str) -> None:
    expected = examples(read(tmp_path, QUESTION, OSLO))
    for given in (None, []):
        rows = read(tmp_path, {"role": "system", "content": text}, QUESTION, says(CALL), tools=given)
        (found,) = examples(rows)
        assert (found.tools, found.response, found.category) == (expected[0].tools, GOLD, "single_call")
        shown = " ".join(message.content for message in found.messages)
        assert "get_weather" not in shown
        assert "<tool_call>" not in shown
        assert changes(rows)["tools read out of a system text"] == 2


def test_the_tools_of_a_row_come_before_those_of_its_system_text(tmp_path: Path) -> None:
    same = {"role": "system", "content": f"Be brief. <tools>{json.dumps(TOOLS)}</tools>"}
    other = {"role": "system", "content": f"Be brief. <tools>{json.dumps([WEATHER])}</tools>"}
    (without,), (kept,) = (examples(read(tmp_path, message, QUESTION, OSLO)) for message in (same, other))
    assert without.messages[0].content == "Be brief."
    assert kept.messages[0].content == other["content"]
    assert [tool["name"] for tool in kept.tools] == [tool["name"] for tool in without.tools] == ["get_weather", "clock"]


@pytest.mark.parametrize("piece", ["[{", "{'name':", "[{'", '[{"name": "', "{'name': {'a'}}"])
def test_long_system_texts_are_read_in_time(piece: str) -> None:
    assert tools_in_text(piece * 5_000).tools == []


def test_tools_of_a_text_that_break_off_are_refused(tmp_path: Path) -> None:
    text = {"role": "system", "content": '<tools>[{"name": </tools>'}
    (row,) = read(tmp_path, text, QUESTION, says("a"), tools=None)
    assert isinstance(row, Quarantined)
    assert row.reason.startswith("the tools in the system text cannot be read: ")


def test_results_are_shown_in_the_order_of_their_calls(tmp_path: Path) -> None:
    made = calls(("a", "get_weather", {"city": "Oslo"}), ("b", "get_weather", {"city": "Rome"}))
    found = examples(read(tmp_path, QUESTION, made, result("31", "b"), result("3", "a"), says("3 and 31")))
    shown = 'get_weather(city="Oslo"): 3\nget_weather(city="Rome"): 31'
    assert found[1].messages[-1] == Message("tool", shown)


def test_results_belong_to_calls_by_name_where_there_are_no_ids(tmp_path: Path) -> None:
    made = calls((None, "get_weather", {"city": "Oslo"}), (None, "clock", {}))
    named = result("noon", name="clock"), result("3", name="get_weather")
    tagged = [
        {"role": "user", "content": "".join(f"<tool_response>{json.dumps(one)}</tool_response>" for one in given)}
        for given in ([{"name": "clock", "content": "noon"}, {"name": "get_weather", "content": "3"}],)
    ]
    for results in (named, tagged):
        found = examples(read(tmp_path, QUESTION, made, *results, says("3, noon")))
        assert found[1].messages[-1] == Message("tool", "get_weather: 3\nclock: noon")


def test_calls_in_several_messages_are_made_together(tmp_path: Path) -> None:
    apart = OSLO, calls(("c2", "clock", {}))
    found = examples(read(tmp_path, QUESTION, *apart, result("noon", "c2"), result("3", "c1"), says("a")))
    assert [e.response for e in found] == ['[get_weather(city="Oslo"), clock()]', "a"]
    assert found[1].messages[-1] == Message("tool", "get_weather: 3\nclock: noon")


def test_words_in_several_messages_are_one_answer(tmp_path: Path) -> None:
    rows = read(tmp_path, QUESTION, says("Hello."), says("How are you?"))
    assert [e.response for e in examples(rows)] == ["Hello.\nHow are you?"]
    assert changes(rows) == {"messages joined to the one before by the same speaker": 1}


def test_what_is_not_to_be_learnt_is_not_joined_to_what_is(tmp_path: Path) -> None:
    rows = read(tmp_path, QUESTION, says("WRONG", weight=0), says("Right", weight=1))
    assert [row.response for row in rows if isinstance(row, Example)] == ["Right"]
    assert sum(isinstance(row, PassedOver) for row in rows) == 1


@pytest.mark.parametrize(("words", "made", "learnt"), [(0, 1, [GOLD, "fine"]), (1, 0, ["fine"])])
def test_words_before_a_call_are_no_answer_whatever_their_weight(
    tmp_path: Path, words: int, made: int, learnt: list[str]
) -> None:
    rows = read(
        tmp_path, QUESTION, says("Let me", weight=words), {**OSLO, "weight": made}, result("3", "c1"), says("fine")
    )
    assert [row.response for row in rows if isinstance(row, Example)] == learnt
    assert sum(isinstance(row, PassedOver) for row in rows) == 2 - len(learnt)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        QUESTION,
        says("<think>a</think>Let me look."),
        says(f"<tool_call>{CALL}</tool_call>"),
        {"role": "user", "content": "<tool_response>3</tool_response>\nAnd now?"},
        says("3", reasoning_content="b"),
    )
    assert [e.response for e in examples(rows)] == [GOLD, "3"]
    assert examples(rows)[1].messages[-2:] == (Message("tool", "3"), Message("user", "And now?"))
    assert changes(rows) == {
        "calls read out of an assistant's words": 1,
        "words beside calls left out": 1,
        "messages joined to the one before by the same speaker": 1,
        "thoughts before an answer left out": 2,
        "results read out of a user's words": 1,
    }


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (says("<tool_call>{</tool_call>"), "writes calls as text: "),
        (says("<think>hm"), "thoughts that do not end: "),
        (says("<tool_response>3</tool_response>"), "an assistant's words hold the results of tools"),
        (result("3", "c9"), "a result of a call that was not made: 'c9'|more results than calls"),
        ({"role": "system", "content": "Speak French."}, "a system message behind other turns"),
        (calls(("x", "clock", {}), content=f"<tool_call>{CALL}</tool_call>"), "writes other calls as text than it "),
    ],
)
def test_a_turn_that_cannot_be_read_ends_the_conversation(tmp_path: Path, turn: dict[str, Any], reason: str) -> None:
    """What came before it is kept; what follows would have a context with a hole in it."""
    rows = read(tmp_path, *PLAIN, {"role": "user", "content": "q2"}, turn, says("never"))
    assert [row.response for row in rows if isinstance(row, Example)] == [GOLD, "3 degrees."]
    (bad,) = (row for row in rows if isinstance(row, Quarantined))
    assert bad.position == "line 1, from turn 5 on"
    assert any(bad.reason.startswith(one) for one in reason.split("|"))


def test_a_conversation_without_a_turn_that_can_be_read_is_quarantined_whole(tmp_path: Path) -> None:
    (row,) = read(tmp_path, QUESTION, says("<tool_call>{</tool_call>"))
    assert isinstance(row, Quarantined)
    assert row.position == "line 1"


@pytest.mark.parametrize("text", [f"<tool_call>{CALL}</tool_call>", CALL, GOLD, "<think>hm", "[TOOL_CALLS] ["])
def test_the_words_of_users_and_tools_are_never_calls(tmp_path: Path, text: str) -> None:
    first, second = examples(read(tmp_path, {"role": "user", "content": text}, OSLO, result(text, "c1"), says("fine")))
    assert first.messages == (Message("user", text),)
    assert second.messages[-1] == Message("tool", text)


def test_results_in_the_first_words_of_a_user_are_words(tmp_path: Path) -> None:
    text = "<tool_response>3</tool_response> What is this?"
    (found,) = examples(read(tmp_path, {"role": "user", "content": text}, says("A result.")))
    assert found.messages == (Message("user", text),)


def test_several_system_messages_may_come_first(tmp_path: Path) -> None:
    system = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}]
    (found,) = examples(read(tmp_path, *system, QUESTION, says("a")))
    assert found.messages == (Message("system", "A"), Message("system", "B"), Message("user", "q"))

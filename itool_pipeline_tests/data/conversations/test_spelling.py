"""The same conversation in other spellings is the same examples; two that differ in one row are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.rows import Quarantined
from itool_pipeline_tests.data.conversations.rows_in_lines import (
    ANSWER,
    CALL,
    FUNCTION,
    RESULT,
    SCHEMA,
    USER,
    WEATHER,
    WHOLE,
    calling,
    examples,
    meaning,
    passed_over,
    reason,
    row,
)

AS_TEXT = json.dumps(FUNCTION)
ARGUMENTS = FUNCTION["arguments"]
SYSTEM = {"role": "system", "content": "Be brief."}
PARTS_WITH_TOOLS = [{"type": "text", "value": "Be brief."}, {"type": "tools", "value": json.dumps([WEATHER])}]


def turns(*said: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"from": who, "value": what} for who, what in said]


def roles(*said: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": who, "content": what} for who, what in said]


def around(call: Any, result: Any = RESULT) -> dict[str, Any]:
    """The conversation with the call spelled so."""
    return row(USER, call, result, ANSWER)


SHAREGPT = turns(("human", "Oslo?"), ("function_call", AS_TEXT), ("observation", "3"), ("gpt", "3 degrees."))
SPELLINGS: dict[str, Any] = {
    "tools as text": row(*WHOLE, tools=json.dumps([WEATHER])),
    "tools as text of text": row(*WHOLE, tools=json.dumps(json.dumps([WEATHER]))),
    "a text for each tool": row(*WHOLE, tools=[json.dumps(WEATHER)]),
    "tools as Python prints them": row(*WHOLE, tools=str([WEATHER])),
    "one tool without a list": row(*WHOLE, tools={"type": "function", "function": WEATHER}),
    "functions": {"messages": list(WHOLE), "functions": [WEATHER]},
    "tools and functions alike": row(*WHOLE, functions=[WEATHER]),
    "functions as text": {"messages": list(WHOLE), "tools": [], "functions": json.dumps([WEATHER])},
    "messages as text": {**row(), "messages": json.dumps(WHOLE)},
    "messages as conversations": {"conversations": list(WHOLE), "tools": [WEATHER]},
    "messages twice": row(*WHOLE, conversation=list(WHOLE)),
    "ShareGPT": {"conversations": SHAREGPT, "tools": json.dumps([WEATHER])},
    "ShareGPT with a list": {
        "conversations": [SHAREGPT[0], *turns(("function_call", f"[{AS_TEXT}]")), *SHAREGPT[2:]],
        "tools": [WEATHER],
    },
    "ShareGPT with thoughts": {
        "conversations": [SHAREGPT[0], *turns(("function_call", f"<think>\nhm\n</think>\n{AS_TEXT}")), *SHAREGPT[2:]],
        "tools": [WEATHER],
    },
    "ms-swift": row(
        *roles(("user", "Oslo?"), ("tool_call", AS_TEXT), ("tool_response", "3"), ("assistant", "3 degrees."))
    ),
    "roles of other models": row(
        *roles(("Human", "Oslo?"), ("tool-call", FUNCTION), ("ipython", "3"), ("model", "3 degrees."))
    ),
    "calls as text": around({**CALL, "tool_calls": json.dumps(CALL["tool_calls"])}),
    "calls as texts": around(calling(AS_TEXT)),
    "one call without a list": around({**CALL, "tool_calls": FUNCTION}),
    "flat call": around(calling(FUNCTION)),
    "call with args": around(calling({"name": "get_weather", "args": ARGUMENTS, "id": "c1", "type": "tool_call"})),
    "call with parameters": around(calling({"name": "get_weather", "parameters": ARGUMENTS})),
    "call with its function's name": around(calling({"function": "get_weather", "arguments": ARGUMENTS})),
    "arguments beside the function": around(calling({"function": {"name": "get_weather"}, "arguments": ARGUMENTS})),
    "arguments as text": around(calling({**FUNCTION, "arguments": json.dumps(ARGUMENTS)})),
    "arguments as text of text": around(calling({**FUNCTION, "arguments": json.dumps(json.dumps(ARGUMENTS))})),
    "arguments as Python prints them": around(calling({**FUNCTION, "arguments": str(ARGUMENTS)})),
    "the old function_call": row(
        USER,
        {"role": "assistant", "content": None, "function_call": {**FUNCTION, "arguments": json.dumps(ARGUMENTS)}},
        {"role": "function", "name": "get_weather", "content": "3"},
        ANSWER,
    ),
    "function_call beside the same tool_calls": around({**CALL, "function_call": FUNCTION}),
    "null function_call": row(*({"function_call": None, "tool_calls": None, **message} for message in WHOLE)),
    "LLaMA-Factory's parts": row(
        {"role": "user", "content": [{"type": "text", "value": "Oslo?"}]},
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "value": "hm"}, {"type": "tool_call", "value": AS_TEXT}],
        },
        {"role": "tool", "content": [{"type": "text", "value": "3"}]},
        {"role": "assistant", "content": [{"type": "text", "value": "3 degrees."}]},
    ),
    "Anthropic's blocks": row(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "get_weather", "input": ARGUMENTS},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3"}]}],
        },
        ANSWER,
    ),
    "LangChain's messages": row(
        {"type": "human", "content": "Oslo?"},
        {
            "type": "ai",
            "content": "",
            "tool_calls": [{"name": "get_weather", "args": ARGUMENTS, "id": "c1"}],
            "invalid_tool_calls": [],
        },
        {"type": "tool", "content": "3", "tool_call_id": "c1", "status": "success"},
        {"type": "ai", "content": "3 degrees."},
    ),
    "LangChain's objects": row(
        {"type": "human", "data": {"content": "Oslo?"}},
        {
            "type": "ai",
            "data": {"content": "", "tool_calls": [], "additional_kwargs": {"tool_calls": CALL["tool_calls"]}},
        },
        {"type": "tool", "data": {"content": "3", "tool_call_id": "c1"}},
        {"type": "ai", "data": {"content": "3 degrees."}},
    ),
    "thoughts in turns of their own": row(USER, {"role": "thought", "content": "hm"}, CALL, RESULT, ANSWER),
    "items of OpenAI's Responses": row(
        {"type": "message", **USER},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": json.dumps(ARGUMENTS)},
        {"type": "function_call_output", "call_id": "c1", "output": "3"},
        {"type": "message", **ANSWER, "content": [{"type": "output_text", "text": "3 degrees.", "annotations": []}]},
    ),
    "the AI SDK's parts": row(
        {"role": "user", "content": "Oslo?", "parts": [{"type": "text", "text": "Oslo?"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "get_weather", "args": ARGUMENTS}],
        },
        {
            "role": "tool",
            "content": [
                {
                    "type": "tool-result",
                    "toolCallId": "c1",
                    "toolName": "get_weather",
                    "output": {"type": "text", "value": "3"},
                }
            ],
        },
        {"role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": "3 degrees."}]},
    ),
    "keys of both, one null": row(*({"from": None, "value": None, "weight": None, **message} for message in WHOLE)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_same_in_other_spellings(tmp_path: Path, name: str) -> None:
    call, answer = examples(tmp_path, SPELLINGS[name])
    asked = Message("user", "Oslo?")
    assert (call.tools, answer.tools) == ((WEATHER,), (WEATHER,))
    assert (call.messages, call.response) == ((asked,), '[get_weather(city="Oslo")]')
    assert call.gold == (GoldCall("get_weather", {"city": ("Oslo",)}),)
    assert answer.messages == (asked, Message("assistant", call.response), Message("tool", "3"))
    assert answer.response == "3 degrees."


@pytest.mark.parametrize(
    "given",
    [
        row(SYSTEM, USER, ANSWER),
        row(USER, ANSWER, system="Be brief."),
        row(USER, ANSWER, system_prompt=" Be brief. "),
        row(USER, ANSWER, systemPrompt="Be brief."),
        row(USER, ANSWER, system_instruction="Be brief."),
        row(USER, ANSWER, developer="Be brief."),
        row(
            SYSTEM, {"role": "user", "parts": [{"text": "Oslo?"}]}, {"role": "model", "parts": [{"text": "3 degrees."}]}
        ),
        row(USER, ANSWER, system=[{"type": "text", "text": "Be brief."}]),
        row(SYSTEM, USER, ANSWER, system="Be brief."),
        row({**SYSTEM, "content": ""}, USER, ANSWER, system="Be brief."),
        row({**SYSTEM, "role": "developer"}, USER, ANSWER),
        {"messages": [{**SYSTEM, "tools": [WEATHER]}, USER, ANSWER]},
        {"messages": [{**SYSTEM, "functions": json.dumps([WEATHER])}, USER, ANSWER], "tools": None},
        {"messages": [{"role": "system", "content": PARTS_WITH_TOOLS}, USER, ANSWER]},
        {"prompt": [SYSTEM, USER], "completion": [ANSWER], "tools": [WEATHER]},
        {"prompt": "Oslo?", "completion": "3 degrees.", "system": "Be brief.", "tools": [WEATHER]},
        {"prompt": "Oslo?", "completion": ANSWER, "system": "Be brief.", "tools": json.dumps([WEATHER])},
        {"instruction": "Oslo?", "input": "", "output": "3 degrees.", "system": "Be brief.", "tools": [WEATHER]},
        row(SYSTEM, USER, ANSWER, prompt="Oslo?"),
        row(SYSTEM, USER, ANSWER, prompt=[SYSTEM, USER]),
        row(SYSTEM, USER, {"role": "assistant", "content": None, "refusal": "3 degrees."}),
        row(SYSTEM, USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "3 degrees."}]}),
        row(SYSTEM, USER, {**ANSWER, "refusal": None, "audio": None, "annotations": [], "tool_calls": []}),
        row(SYSTEM, {"role": "user", "content": [{"type": "input_text", "text": "Oslo?"}]}, ANSWER),
        row(SYSTEM, {"role": "user", "text": "Oslo?"}, ANSWER),
        row(SYSTEM, USER, {**ANSWER, "reasoning_content": "hm"}),
    ],
)
def test_one_question_and_its_answer(tmp_path: Path, given: Any) -> None:
    (example,) = examples(tmp_path, given)
    assert [(message.role, message.content.strip()) for message in example.messages] == [
        ("system", "Be brief."),
        ("user", "Oslo?"),
    ]
    assert (example.response, example.tools, example.gold) == ("3 degrees.", (WEATHER,), ())


def test_calls_that_are_turns_and_follow_one_another_are_made_together(tmp_path: Path) -> None:
    rome = json.dumps({"name": "get_weather", "arguments": {"city": "Rome"}})
    both = turns(("human", "q"), ("function_call", AS_TEXT), ("function_call", rome))
    first = examples(tmp_path, {"conversations": both, "tools": [WEATHER]})
    assert [one.response for one in first] == ['[get_weather(city="Oslo"), get_weather(city="Rome")]']
    for content in (f"{AS_TEXT}\n{rome}", f"<tool_call>{AS_TEXT}</tool_call>\n<tool_call>{rome}</tool_call>"):
        alike = examples(tmp_path, {"conversations": [both[0], *turns(("function_call", content))], "tools": [WEATHER]})
        assert [one.response for one in alike] == [one.response for one in first]
    apart = [*both[:2], *turns(("observation", "3")), both[2]]
    later = examples(tmp_path, {"conversations": apart, "tools": [WEATHER]})
    assert [one.response for one in later] == ['[get_weather(city="Oslo")]', '[get_weather(city="Rome")]']


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"t": 3, "of": "Åre"}, '{"t": 3, "of": "Åre"}'),
        (["sun", "wind"], '["sun", "wind"]'),
        ([{"t": 3}], '[{"t": 3}]'),
        ([], "[]"),
        (3, "3"),
        (False, "false"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_a_result_that_is_no_text_is_its_json(tmp_path: Path, content: Any, shown: str) -> None:
    answer = examples(tmp_path, around(CALL, {**RESULT, "content": content}))[1]
    assert answer.messages[-1] == Message("tool", shown)


def test_words_after_results_of_one_message_are_the_users(tmp_path: Path) -> None:
    blocks = [{"type": "tool_result", "tool_use_id": "c1", "content": "3"}, {"type": "text", "text": "And Rome?"}]
    answer = examples(tmp_path, around(CALL, {"role": "user", "content": blocks}))[1]
    assert answer.messages[-2:] == (Message("tool", "3"), Message("user", "And Rome?"))


@pytest.mark.parametrize("failed", [{"status": "error"}, {"is_error": True}])
def test_a_result_that_is_marked_as_an_error_says_so(tmp_path: Path, failed: Any) -> None:
    for text, shown in (("no such city", "Error: no such city"), ("Error 404", "Error 404")):
        answer = examples(tmp_path, around(CALL, {**RESULT, **failed, "content": text}))[1]
        assert answer.messages[-1].content == shown


def test_only_the_completion_is_learnt(tmp_path: Path) -> None:
    given = {"prompt": list(WHOLE[:3]), "completion": [ANSWER], "tools": [WEATHER]}
    assert passed_over(tmp_path, given) == ["line 1, turn 1"]
    assert passed_over(tmp_path, {**given, "prompt": [USER, {**CALL, "weight": 1}, RESULT]}) == []
    given = {"prompt": [USER], "completion": [CALL, RESULT, ANSWER], "tools": [WEATHER]}
    assert meaning(tmp_path, given) == meaning(tmp_path, row(*WHOLE))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (row(USER, ANSWER, functions=[{"name": "f"}]), "has both `tools` and `functions`, which say different things"),
        (row(USER, ANSWER, conversations=[USER, CALL]), "has both `messages` and `conversations`"),
        (row(SYSTEM, USER, ANSWER, system="Be long."), "has both `system` and `messages`"),
        (row(USER, ANSWER, system="A", system_prompt="B"), "has both `system` and `system_prompt`"),
        (row(USER, ANSWER, system=3), "the system text is not text: 3"),
        (row(USER, {**CALL, "function_call": {"name": "f"}}), "a message has both `tool_calls` and `function_call`"),
        (row({**USER, "value": "Rome?"}, ANSWER), "a message has both `content` and `value`"),
        (row({**USER, "from": "gpt"}, ANSWER), "a message has both `role` and `from`"),
        (row(USER, {**ANSWER, "refusal": "No."}), "a message has both `content` and `refusal`"),
        (row(USER, calling({**FUNCTION, "args": {"city": "Rome"}})), "a call has both `arguments` and `args`"),
        (row(USER, ANSWER, USER, response="3"), "has `response` beside messages without an answer"),
        (row(USER, ANSWER, USER, completion="4"), "has `completion`, which is not read beside messages"),
        (row(USER, ANSWER, prompt="Rome?"), "has `prompt`, which is not read beside messages"),
        ({"prompt": "<|im_start|>user\nq", "completion": "a"}, "`prompt` is the text of a chat template"),
        ({"prompt": 3, "completion": "a"}, "`prompt` is neither text nor messages: 3"),
        ({"contents": [{"role": "user", "parts": [{"text": "q"}]}]}, "no messages: the row has contents"),
        ({"messages": "[", "tools": None}, "messages is not JSON"),
        ({"messages": 3}, "the messages are not a list: 3"),
        (row({"role": "user", "body": "q"}, ANSWER), "a message has no content"),
        (row({**USER, "tools": [WEATHER]}, ANSWER), "tools are offered by another than the system: user"),
        (row(USER, calling({"name": "f", "payload": {"a": 1}})), "a call has `payload`, which is not read"),
        (row(USER, calling({**FUNCTION, "arguments": []})), "the arguments of a call are not an object"),
        (row(USER, calling({**FUNCTION, "arguments": False})), "the arguments of a call are not an object"),
        (row(USER, calling({**FUNCTION, "arguments": "{'a': ('b', 'c')}"})), "the arguments of a call are not JSON"),
        (row(USER, calling({**FUNCTION, "arguments": "{'a': f()}"})), "the arguments of a call are not JSON"),
        (row(USER, calling({**FUNCTION, "arguments": "{'a': " * 200})), "the arguments of a call are not JSON"),
        (row(USER, *roles(("tool_call", "Let me look."))), "`content` is not JSON"),
        (row(USER, calling({**FUNCTION, "result": "3"}), ANSWER), "a call has `result`, which is not read: '3'"),
        (row(USER, {**ANSWER, "tool_calls": float("nan")}), "the tool calls of a message are not a list: nan"),
        (
            row(USER, {"role": "tool_call", "content": AS_TEXT, "tool_calls": [{"name": "f"}]}),
            "a message has both `tool_calls` and `content`",
        ),
        (row(USER, *roles(("tool_call", "[]"))), "a turn of calls holds none"),
        (row(USER, CALL, {**RESULT, "tool_calls": CALL["tool_calls"]}), "calls are made by another than the assistant"),
        (row(USER, CALL, {**RESULT, "content": [{"type": "image_url"}]}), "a message holds something else than text"),
        (
            row({"role": "user", "content": [{"type": "text", "text": "a", "image": "b.png"}]}, ANSWER),
            "a message holds",
        ),
        (row(USER, {"role": "assistant", "content": [{"type": "server_tool_use"}]}), "a message holds something else"),
        (row({**USER, "name": "Ann"}, ANSWER, {**USER, "name": "Bob"}, ANSWER), "the `name` of a message is not read"),
        (row({**SYSTEM, "name": "example_user"}, USER, ANSWER), "the `name` of a message is not read"),
    ],
)
def test_a_row_that_cannot_be_levelled_says_why(tmp_path: Path, given: Any, why: str) -> None:
    assert reason(tmp_path, given).startswith(why)


@pytest.mark.parametrize("levels", [50, 300, 400, 450, 480, 2000])
def test_nothing_nested_ends_the_reading(tmp_path: Path, levels: int) -> None:
    """What can be read at one depth of the stack is too deep for another; either way the row is one of the two."""
    schema = '{"type": "object", "properties": {"a": ' * levels + "{}" + "}}" * levels
    tools = f'[{{"name": "f", "parameters": {schema}}}]'
    good, deep = json.dumps(row(USER, ANSWER)), json.dumps(row(USER, ANSWER, tools=None)).replace("null", tools)
    (tmp_path / "own.jsonl").write_text(f"{good}\n{deep}\n")
    _, found = chat_rows(file_rows(tmp_path / "own.jsonl"))
    assert isinstance(found, Example | Quarantined)


def test_a_schema_that_means_itself_is_read(tmp_path: Path) -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    given = row(
        USER,
        calling({"name": "f", "arguments": {"a": {"a": {"b": None}, "b": {}}}}),
        tools=[{"name": "f", "parameters": endless}],
    )
    (example,) = examples(tmp_path, given)
    assert example.gold == (GoldCall("f", {"a": ({"b": {}},)}),)


def test_schemas_are_shown_as_they_are(tmp_path: Path) -> None:
    (example,) = examples(tmp_path, row(USER, ANSWER))
    assert example.tools[0]["parameters"] == SCHEMA

"""Between examples and OpenAI's chat completions, there and back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.calls.reading import parse_calls
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.engines.endpoint.messages import (
    NO_CALLS,
    FunctionNames,
    answer_text,
    estimated_tokens,
    functions_request,
    prompt_request,
)

TOOLS = (
    {
        "name": "math.area",
        "description": "An area.",
        "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}},
    },
    {"name": "book", "parameters": {}},
)


def example(*messages: tuple[str, str], tools: Any = TOOLS) -> Example:
    return Example(
        id="one",
        source="bfcl",
        category="multiple",
        messages=tuple(Message(*message) for message in messages),
        tools=tools,
        response="",
        gold=(),
        group="one",
    )


def called(*calls: tuple[str, str]) -> dict[str, Any]:
    return {"tool_calls": [{"id": "x", "function": {"name": n, "arguments": a}} for n, a in calls]}


def test_tools_are_openais_functions() -> None:
    request = functions_request(example(("system", "Be kind."), ("user", "How large?")))
    assert request["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How large?"},
    ]
    assert [tool["type"] for tool in request["tools"]] == ["function", "function"]
    assert [tool["function"] for tool in request["tools"]] == [
        {
            "name": "math_area",
            "description": "An area.",
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
        {"name": "book", "description": "", "parameters": {"type": "object", "properties": {}}},
    ]
    assert "tools" not in functions_request(example(("user", "Hi"), tools=()))


def test_names_go_there_and_back() -> None:
    long = "x" * 70
    tools = [{"name": name} for name in ("a.b", "a_b", "ä b", long, f"{long}y", "a.b")]
    names = FunctionNames.of(tools)
    assert list(names.theirs.values()) == ["a_b", "a_b_2", "__b", "x" * 64, f"{'x' * 62}_2"]
    assert [names.ours(their) for their in names.theirs.values()] == ["a.b", "a_b", "ä b", long, f"{long}y"]
    assert names.ours("invented") == "invented"


def test_calls_become_a_list_of_python_calls() -> None:
    asked = example(("user", "How large?"))
    message = called(("math_area", '{"a": 1.5, "deep": {"x": [true, null, "é"]}}'), ("book", ""))
    assert answer_text(message, asked) == '[math.area(a=1.5, deep={"x": [True, None, "é"]}), book()]'
    assert answer_text({"content": "None of these.", "tool_calls": None}, asked) == "None of these."
    assert answer_text({"content": "Text beside.", **called(("book", "{}"))}, asked) == "[book()]"
    assert answer_text({"content": None}, asked) == ""


@pytest.mark.parametrize("arguments", ['{"a": 1', "[1]", "null", "3", '"text"'])
def test_arguments_that_are_no_object_are_no_call(arguments: str, bfcl_dir: Path) -> None:
    asked = example(("user", "How large?"))
    text = answer_text(called(("book", "{}"), ("math_area", arguments)), asked)
    assert text.startswith(NO_CALLS)
    irrelevance = next(x for x in load_bfcl(bfcl_dir, ["irrelevance"]).examples)
    assert OfficialChecker(bfcl_dir).check(irrelevance, text).correct, "it holds no call, as in the official FC mode"


@pytest.mark.parametrize("calls", [[{"function": {"arguments": "{}"}}], [{}], [None], ["f"], {"function": 1}])
def test_what_is_no_tool_call_at_all(calls: Any) -> None:
    assert answer_text({"tool_calls": calls}, example(("user", "?"))).startswith(NO_CALLS)


def test_a_history_of_calls_and_results() -> None:
    request = functions_request(
        example(
            ("system", "One."),
            ("user", "How large?"),
            ("assistant", '[math.area(a=2), book(to="x")]'),
            ("tool", "4"),
            ("tool", "booked"),
            ("assistant", "It is 4."),
            ("system", "Two."),
            ("user", "And now?"),
            ("assistant", "[book()]"),
            ("user", "Well?"),
        )
    )["messages"]
    ids = [call["id"] for message in request for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 3
    assert request == [
        {"role": "system", "content": "One.\n\nTwo."},
        {"role": "user", "content": "How large?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": ids[0], "type": "function", "function": {"name": "math_area", "arguments": '{"a": 2}'}},
                {"id": ids[1], "type": "function", "function": {"name": "book", "arguments": '{"to": "x"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": ids[0], "content": "4"},
        {"role": "tool", "tool_call_id": ids[1], "content": "booked"},
        {"role": "assistant", "content": "It is 4."},
        {"role": "user", "content": "And now?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": ids[2], "type": "function", "function": {"name": "book", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": ids[2], "content": ""},
        {"role": "user", "content": "Well?"},
    ]


def test_results_that_are_not_one_for_each_call() -> None:
    more = functions_request(example(("assistant", "[book()]"), ("tool", "a"), ("tool", "b"), ("user", "?")))
    assert [m["content"] for m in more["messages"] if m["role"] == "tool"] == ["a\nb"]
    without = functions_request(example(("user", "go"), ("tool", "a result"), ("user", "?")))
    assert [m["role"] for m in without["messages"]] == ["user", "user", "user"]


def test_our_own_prompt_as_text() -> None:
    asked = example(("user", "How large?"), ("assistant", "[book()]"), ("tool", "1"), ("tool", "2"), ("user", "?"))
    system, *rest = prompt_request(asked)["messages"]
    assert system["role"] == "system"
    assert '"name":"math.area"' in system["content"]
    assert rest == [
        {"role": "user", "content": "How large?"},
        {"role": "assistant", "content": "[book()]"},
        {"role": "user", "content": "1\n2\n?"},
    ]
    characters = len(system["content"]) + len("How large?[book()]12?")
    assert estimated_tokens(asked) == math.ceil(characters / 4)


def test_every_real_gold_answer_is_right_by_way_of_tool_calls(bfcl_dir: Path) -> None:
    """What BFCL's own checker says of the gold answers when they come back as OpenAI's tool calls."""
    checker, checked = OfficialChecker(bfcl_dir), 0
    categories = ["simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple"]
    for asked in load_bfcl(bfcl_dir, categories).examples:
        if not asked.response or not checker.check(asked, asked.response).correct:
            continue
        theirs = FunctionNames.of(asked.tools)
        calls = parse_calls(asked.response, [str(tool["name"]) for tool in asked.tools])
        message = called(*((theirs.their(c.name), json.dumps(c.arguments)) for c in calls))
        verdict = checker.check(asked, answer_text(message, asked))
        assert verdict.correct, (asked.id, verdict)
        checked += 1
    assert checked > 1000

"""What the prompts say, and what they must not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.prompts import CANDIDATE, OPTIONS, grade_messages, response_messages, tool_list_text
from itool_pipeline.core.types import Example, Message

TOOLS = ({"name": "weather.now", "description": "Grüße", "parameters": {"city": {"type": "string"}}},)
EXAMPLE = Example(
    "id",
    "bfcl",
    "simple_python",
    (
        Message("system", "Be brief."),
        Message("user", "Weather?"),
        Message("assistant", "Where?"),
        Message("user", "In Oslo."),
    ),
    TOOLS,
    "[weather.now(city='GOLDEN')]",
    (GoldCall("weather.now", {"city": ("GOLDEN",)}),),
    "id",
)


def test_the_tool_list_is_compact_json() -> None:
    text = tool_list_text(TOOLS)
    assert json.loads(text) == list(TOOLS)
    assert "Grüße" in text
    assert ": " not in text
    assert tool_list_text(()) == "[]"


def test_the_response_prompt_has_the_tools_and_then_the_turns() -> None:
    system, *turns = response_messages(EXAMPLE)
    assert system.role == "system"
    assert system.content.endswith(tool_list_text(TOOLS) + "\n\nBe brief.")
    assert turns == list(EXAMPLE.messages[1:])


def test_an_example_without_system_turn_gets_ours_alone() -> None:
    bare = replace(EXAMPLE, messages=EXAMPLE.messages[1:])
    system, *turns = response_messages(bare)
    assert system.content.endswith(tool_list_text(TOOLS))
    assert turns == list(bare.messages)


@pytest.mark.parametrize("list_tools", [True, False])
def test_the_response_prompt_says_what_a_call_looks_like(list_tools: bool) -> None:
    assert "[name(parameter=value, ...), ...]" in response_messages(EXAMPLE, list_tools=list_tools)[0].content


def test_without_the_tools_all_else_stays() -> None:
    system, *turns = response_messages(EXAMPLE, list_tools=False)
    assert "weather" not in system.content
    assert "unctions:" not in system.content
    assert system.content.endswith("\n\nBe brief.")
    assert turns == list(EXAMPLE.messages[1:])


@pytest.mark.parametrize(
    "question",
    [
        "function names",
        "number of parameters",
        "parameter names",
        "values and their types",
        "mean what the request asks",
    ],
)
def test_the_grade_prompt_asks_about_the_five_things(question: str) -> None:
    assert question in grade_messages(EXAMPLE)[0].content.replace("the reply mean", "mean").replace("\n", " ")


def test_the_grade_prompt_offers_each_option_once_best_first() -> None:
    lines = grade_messages(EXAMPLE)[0].content.splitlines()
    assert OPTIONS == ("A", "B", "C", "D")
    assert [line[0] for line in lines if line[1:3] == ": "] == list(OPTIONS)
    assert next(line for line in lines if line.startswith("A: ")).startswith("A: all right")
    assert next(line for line in lines if line.startswith("D: ")).startswith("D: useless")


def test_the_candidate_comes_last_and_once() -> None:
    system, user = grade_messages(EXAMPLE)
    assert (system.role, user.role) == ("system", "user")
    assert CANDIDATE not in system.content
    assert user.content.count(CANDIDATE) == 1
    assert user.content.endswith(CANDIDATE)


def test_the_grade_prompt_shows_tools_and_every_turn_in_order() -> None:
    system, user = grade_messages(EXAMPLE)
    assert system.content.endswith(tool_list_text(TOOLS))
    turns = "system: Be brief.\nuser: Weather?\nassistant: Where?\nuser: In Oslo.\n"
    assert turns in user.content


def test_neither_prompt_gives_the_gold_answer_away() -> None:
    for message in (*response_messages(EXAMPLE), *grade_messages(EXAMPLE)):
        assert "GOLDEN" not in message.content

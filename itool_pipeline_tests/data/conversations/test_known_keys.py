"""A key that carries meaning is honoured, or the row is quarantined by the key's name; any other is not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import JsonlData
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.conversations.chat_jsonl import NOT_TO_BE_LEARNT
from itool_pipeline.data.conversations.known_keys import THOUGHTS_LEFT_OUT
from itool_pipeline.data.sources import load_data
from itool_pipeline_tests.data.conversations.rows_in_lines import (
    ANSWER,
    CALL,
    RESULT,
    USER,
    WEATHER,
    changes,
    examples,
    passed_over,
    read,
    reason,
    row,
)

NO = [
    *({key: 0} for key in ("weight", "loss_weight", "loss_mask", "loss_scale")),
    *({key: False} for key in ("loss", "train", "training", "trainable")),
    *({"masked": True}, {"weight": 0.0}, {"weight": "0"}, {"train": "false"}, {"weight": 0, "train": False}),
]
YES = [
    {"weight": 1},
    {"loss": True},
    {"loss_weight": 1.0},
    {"masked": False},
    {"weight": None},
    {"weight": 1, "train": True},
]


@pytest.mark.parametrize("mark", NO)
def test_an_answer_that_is_not_to_be_learnt_stays_in_the_context(tmp_path: Path, mark: Any) -> None:
    given = row(USER, {**CALL, **mark}, RESULT, ANSWER)
    assert passed_over(tmp_path, given) == ["line 1, turn 1"]
    (answer,) = [one for one in read(tmp_path, given) if isinstance(one, Example)]
    assert answer.messages[1] == Message("assistant", '[get_weather(city="Oslo")]')
    assert passed_over(tmp_path, row(USER, CALL, RESULT, ANSWER, **mark)) == ["line 1, turn 1", "line 1, turn 3"]


@pytest.mark.parametrize("mark", YES)
def test_an_answer_that_is_to_be_learnt(tmp_path: Path, mark: Any) -> None:
    assert len(examples(tmp_path, row({**USER, "weight": 0}, {**ANSWER, **mark}), row(USER, ANSWER, **mark))) == 2


@pytest.mark.parametrize("verdict", ["label", "kto_tag", "correct", "success", "is_correct", "passed"])
def test_an_answer_that_is_called_wrong_is_not_learnt(tmp_path: Path, verdict: str) -> None:
    whole = (USER, CALL, RESULT, ANSWER)
    assert passed_over(tmp_path, row(*whole, **{verdict: False})) == ["line 1, turn 3"]
    assert passed_over(tmp_path, row(*whole, **{verdict: True}), row(*whole, **{verdict: "weather"})) == []
    assert passed_over(tmp_path, row(USER, CALL, RESULT, {**ANSWER, verdict: False})) == ["line 1, turn 3"]


@pytest.mark.parametrize(
    "mark",
    [
        {"rejected": True},
        {"has_error": True},
        {"skip": True},
        {"finish_reason": "length"},
        {"stop_reason": "max_tokens"},
    ],
)
def test_an_answer_that_is_wrong_or_cut_off_is_not_learnt(tmp_path: Path, mark: Any) -> None:
    assert passed_over(tmp_path, row(USER, CALL, RESULT, {**ANSWER, **mark})) == ["line 1, turn 3"]
    whole = {**dict.fromkeys(mark, False), "finish_reason": "stop", "stop_reason": "end_turn", "error": None}
    assert passed_over(tmp_path, row(USER, CALL, RESULT, {**ANSWER, **whole})) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (row(USER, {**ANSWER, "weight": 0.5}), "`weight` is neither 0 nor 1: 0.5"),
        (row(USER, {**ANSWER, "loss_mask": [0, 1]}), "`loss_mask` is neither 0 nor 1: [0, 1]"),
        (row(USER, {**ANSWER, "weight": 2}), "`weight` is neither 0 nor 1: 2"),
        (row(USER, ANSWER, loss=0.731), "`loss` is neither 0 nor 1: 0.731"),
        (
            row(USER, {**ANSWER, "weight": 1, "train": False}),
            "has both `weight` and `train`, which say different things",
        ),
        (row(USER, {**ANSWER, "weight": 1, "masked": True}), "has both `weight` and `masked`"),
        (row(USER, ANSWER, label=0), "has `label`, which is not read: 0"),
        (row(USER, {**ANSWER, "token_loss_weights": [1]}), "a message has `token_loss_weights`, which is not read"),
        (row(USER, {**ANSWER, "train_detail": [{"train": False}]}), "a message has `train_detail`, which is not read"),
        (row(USER, {**ANSWER, "prefix": True}), "a message has `prefix`, which is not read: True"),
        (row(USER, {**ANSWER, "channel": "analysis"}), "a message has `channel`, which is not read: 'analysis'"),
        (row(USER, {**ANSWER, "recipient": "functions.f"}), "a message has `recipient`, which is not read"),
        (row({**USER, "images": ["a.png"]}, ANSWER), "a message has `images`, which is not read: ['a.png']"),
        (row(USER, {**ANSWER, "audio": {"id": "a"}}), "a message has `audio`, which is not read"),
        (row(USER, {**ANSWER, "function_calls": "[f()]"}), "a message has `function_calls`, which is not read"),
        (row(USER, {**ANSWER, "invalid_tool_calls": [{"name": "f"}]}), "a message has `invalid_tool_calls`"),
        *(
            (row(USER, ANSWER, **{key: ["a"]}), f"has `{key}`, which is not read: ['a']")
            for key in ("images", "videos", "audios", "documents", "history", "chosen", "rejected", "rejected_response")
        ),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, "has `preferred_output`, which is not read"),
        (row(USER, ANSWER, mask="User"), "has `mask`, which is not read: 'User'"),
        (row(USER, ANSWER, tool_choice="none"), "has `tool_choice`, which is not read: 'none'"),
        (row(USER, ANSWER, tool_choice={"type": "function"}), "has `tool_choice`, which is not read"),
        (row(USER, ANSWER, response_format={"type": "json_object"}), "has `response_format`, which is not read"),
        (row(USER, ANSWER, System="Be brief."), "has `System`, which is not read: 'Be brief.'"),
        (row(USER, ANSWER, sys_prompt="Be brief."), "has `sys_prompt`, which is not read"),
        (row(USER, ANSWER, developer_message="Be brief."), "has `developer_message`, which is not read"),
        (
            {"instruction": "Oslo?", "context": "Winter.", "output": "3"},
            "has `context` beside `instruction`, which is not read: 'Winter.'",
        ),
        (
            row(USER, {**ANSWER, "parts": [{"type": "tool-invocation", "toolInvocation": {}}]}),
            "a message has both `content` and `parts`, which say different things",
        ),
        (
            row(USER, {**ANSWER, "parts": [{"type": "text", "text": "3 degrees."}, {"type": "tool-clock"}]}),
            "a message holds something else than text: 'tool-clock'",
        ),
        (
            row({"role": "user", "parts": [{"text": "Oslo?"}, {"inlineData": {}}]}, ANSWER),
            "a message holds something else than text: 'inlineData'",
        ),
        (row(USER, choices=[{"message": ANSWER}]), "has `choices` beside messages without an answer"),
        (row(USER, ANSWER, instructions="Be brief."), "has `instructions`, which is not read"),
        (row(USER, ANSWER, chat_template_kwargs={"a": 1}), "has `chat_template_kwargs`, which is not read"),
        (row(USER, ANSWER, tools=None, available_tools=[WEATHER]), "has `available_tools`, which is not read"),
        (row(USER, ANSWER, tools=None, api_list=str([WEATHER])), "has `api_list`, which is not read"),
        (row(USER, ANSWER, tools=None, abilities=[WEATHER]), "has `abilities`, which is not read"),
    ],
)
def test_a_key_with_a_meaning_that_is_not_read(tmp_path: Path, given: Any, why: str) -> None:
    assert reason(tmp_path, given).startswith(why)


def test_keys_without_a_meaning_are_not_looked_at(tmp_path: Path) -> None:
    beside = {
        **{"id": 3, "source": "x", "category": ["a"], "score": 0.5, "tool_names": ["a"], "tool_count": 3, "text": "q"},
        **{
            "images": [],
            "chosen": None,
            "history": [],
            "tool_choice": "auto",
            "function_call": None,
            "documents": None,
        },
        **{"system_fingerprint": "fp_1", "operating_system": "x", "chat_template_kwargs": {"enable_thinking": False}},
        **{"parallel_tool_calls": False, "response_format": {"type": "text"}, "metadata": {"n": {"a": 1}}},
    }
    beside |= {"capital": [{"parameters": 3}], "constraints": "none", "rapid": [{"a": 1}]}
    told = {
        **ANSWER,
        "constraints": "none",
        "recall": [{"a": 1}],
        "id": "m1",
        "timestamp": 3,
        "usage": {"tokens": 3},
        "channel": "final",
        "prefix": False,
    }
    assert len(examples(tmp_path, row({**USER, "name": "Ann"}, told, **beside))) == 1


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_under_a_key_are_left_out_and_counted(tmp_path: Path, key: str) -> None:
    given = row(USER, {**CALL, key: "hm"}, RESULT, {**ANSWER, key: "so"})
    assert [one.response for one in examples(tmp_path, given)] == ['[get_weather(city="Oslo")]', "3 degrees."]
    assert changes(tmp_path, given) == {THOUGHTS_LEFT_OUT: 2}


def test_what_is_passed_over_and_changed_is_in_the_account(tmp_path: Path) -> None:
    given = row(USER, {**ANSWER, "weight": 0, "reasoning": "hm"}, USER, {**ANSWER, "reasoning": "so"})
    read(tmp_path, given, given)
    loaded = load_data(JsonlData(type="jsonl", path=str(tmp_path / "own.jsonl")), tmp_path, seed=0)
    assert (loaded.read, len(loaded.train), loaded.left_out) == (4, 2, {NOT_TO_BE_LEARNT: 2})
    assert loaded.changed == {THOUGHTS_LEFT_OUT: 4}

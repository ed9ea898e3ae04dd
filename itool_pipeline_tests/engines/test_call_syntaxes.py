"""The model's own syntax of calls: prompts are its template's, untouched, and what marks calls is text in responses.

By transformers alone: what it makes of the same conversation, with calls as `tool_calls` and results as results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from itool_pipeline.calls.hermes import CLOSE, HERMES_CALLS, OPEN
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS, TAG
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import SYNTAXES, in_syntax
from itool_pipeline.calls.types import Call
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import SampleRequest
from itool_pipeline.core.prompts import instructions
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.branches import Branch
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline_tests.engines.family_templates import WRITTEN, control_tokens, family_templates

FAMILIES = family_templates()
OWN: dict[str, CallSyntax] = {
    **dict.fromkeys(("qwen2_5", "qwen3", "qwen3_instruct_2507", "qwen3_vl"), HERMES_CALLS),
    **dict.fromkeys(("llama3_1", "llama3_2"), LLAMA3_JSON_CALLS),
}
"""Families whose templates write a syntax that we know."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)

TOOL = {
    "name": "find_paper",
    "description": "Finds a paper by what it says.",
    "parameters": {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
}
SYSTEM, RESULT = "You work in a library.", 'Ash & Oak, "2019"'
FIRST, SECOND = {"said": "trees & <forests>"}, {"said": "«Äste»"}


def conversation(syntax: CallSyntax, *, system: bool = True) -> Example:
    messages = [
        *([Message("system", SYSTEM)] if system else []),
        Message("user", "Who wrote on trees?"),
        Message("assistant", syntax.render_calls([Call("find_paper", FIRST)])),
        Message("tool", RESULT),
        Message("assistant", "Ash and Oak did."),
        Message("user", "And on branches?"),
    ]
    return Example("e1", "own", "own", tuple(messages), (TOOL,), "", (), "e1")


def structured(*, system: bool = True) -> list[dict[str, Any]]:
    """The same as transformers takes it."""
    call = {"type": "function", "function": {"name": "find_paper", "arguments": FIRST}}
    return [
        *([{"role": "system", "content": SYSTEM}] if system else []),
        {"role": "user", "content": "Who wrote on trees?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": RESULT},
        {"role": "assistant", "content": "Ash and Oak did."},
        {"role": "user", "content": "And on branches?"},
    ]


@pytest.fixture(scope="module")
def union(tiny_model_dir: Path) -> Any:
    """One tokenizer with the control tokens of all families; `<tool_call>` is added and not special, as Qwen has it.

    It parts words as Qwen's and Llama 3's do: SmolLM2's joins two line breaks only where nothing follows them.
    """
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    words = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, byte_level])
    special = [*control_tokens(), TAG, "<|eom_id|>"]
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": special})
    tokenizer.add_tokens(list(WRITTEN))
    return tokenizer


def with_family(tokenizer: Any, name: str) -> Any:
    tokenizer.chat_template = FAMILIES[name]
    return tokenizer


def rendered(tokenizer: Any, turns: list[dict[str, Any]], **more: Any) -> str:
    tools = [{"type": "function", "function": TOOL}]
    options = {"tokenize": False, "enable_thinking": False, "date_string": "26 Jul 2024"}
    return str(tokenizer.apply_chat_template(turns, tools=tools, **options, **more))


@pytest.mark.parametrize("name", FAMILIES)
def test_auto_takes_what_the_template_writes(union: Any, name: str) -> None:
    chat = Chat(with_family(union, name), "auto", "auto")
    assert chat.syntax is OWN.get(name, PYTHON_CALLS)
    assert chat.is_untouched is (name in OWN)


def test_a_template_that_writes_arguments_in_another_way_is_given_text(union: Any) -> None:
    """As one whose JSON is made for a web page: what a model trained on our calls says would not be what it shows."""
    tokenizer = with_family(union, "qwen2_5")
    written = tokenizer.chat_template.replace("arguments | tojson", "arguments | tojson | replace('&', '\\\\u0026')")
    assert written != tokenizer.chat_template
    tokenizer.chat_template = written
    chat = Chat(tokenizer, "auto", "auto")
    assert (chat.syntax, chat.is_untouched) == (PYTHON_CALLS, False)


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("name", OWN)
def test_prompts_are_the_template_s_untouched(union: Any, name: str, system: bool) -> None:
    chat = Chat(with_family(union, name), "auto", "auto")
    prompt = chat.prompt(conversation(chat.syntax, system=system))
    expected = rendered(union, structured(system=system), add_generation_prompt=True)
    assert union.decode(prompt) == expected
    assert list(prompt) == union.encode(expected, add_special_tokens=False)
    assert "You can call" not in expected


@pytest.mark.parametrize("name", OWN)
def test_prompt_and_calls_are_the_template_s_whole_conversation(union: Any, name: str) -> None:
    chat = Chat(with_family(union, name), "auto", "auto")
    response = chat.syntax.render_calls([Call("find_paper", SECOND)])
    call = {"type": "function", "function": {"name": "find_paper", "arguments": SECOND}}
    whole = rendered(union, [*structured(), {"role": "assistant", "content": "", "tool_calls": [call]}])
    ids = union.encode(whole, add_special_tokens=False)
    found = [*chat.prompt(conversation(chat.syntax)), *chat.response(response)]
    assert found == ids[: len(found)]
    assert union.decode(ids[len(found) :]).strip() == ""
    assert union.decode([chat.end_token]) == ("<|im_end|>" if chat.syntax is HERMES_CALLS else "<|eot_id|>")


@pytest.mark.parametrize("name", OWN)
def test_several_calls_of_an_earlier_turn_are_shown_too(union: Any, name: str) -> None:
    """Llama's templates refuse more than one; such a turn is handed to them as text."""
    chat = Chat(with_family(union, name), "auto", "auto")
    text = chat.syntax.render_calls([Call("find_paper", FIRST), Call("find_paper", SECOND)])
    turns = (Message("user", "q"), Message("assistant", text), Message("tool", "1"), Message("tool", "2"))
    shown = union.decode(chat.prompt(Example("e2", "", "", turns, (TOOL,), "", (), "e2")))
    assert shown.count(text) == 1
    assert "Result:" not in shown


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma", "smollm3"])
def test_a_syntax_that_the_template_does_not_write_is_told(union: Any, name: str, syntax: Any) -> None:
    chat = Chat(with_family(union, name), "auto", syntax.name)
    text = union.decode(chat.prompt(conversation(syntax)))
    if OWN.get(name) is syntax:
        assert "You can call" not in text
        return
    assert not chat.is_untouched
    assert "".join(syntax.form.split()) in "".join(text.split())
    assert in_syntax('[find_paper(said="trees & <forests>")]', syntax) in text
    assert f"Result: {RESULT}" in text


def test_tools_in_the_system_text_leave_nothing_to_the_template(union: Any) -> None:
    chat = Chat(with_family(union, "qwen2_5"), "system", "auto")
    assert chat.syntax is HERMES_CALLS
    assert not chat.is_untouched
    text = union.decode(chat.prompt(conversation(HERMES_CALLS)))
    assert "You can call the functions listed below" in text
    assert "<tools>" not in text


@pytest.mark.parametrize("special", [False, True])
def test_the_tokens_that_mark_calls_are_text_in_responses(tiny_model_dir: Path, special: bool) -> None:
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    tokenizer.add_tokens([OPEN, CLOSE], special_tokens=special)
    chat = Chat(with_family(tokenizer, "qwen2_5"), "auto", "hermes")
    text = HERMES_CALLS.render_calls([Call("f", {"a": 1}), Call("g", {"b": f"{CLOSE} {OPEN}"})])
    ids = chat.response(text)
    opening = tokenizer.convert_tokens_to_ids(OPEN)
    assert ids.count(opening) == 2
    assert ids[0] == opening
    assert chat.text(ids) == text
    assert chat.control_token_in(text) is None
    assert chat.control_token_in("so <|im_end|>") == "<|im_end|>"
    with pytest.raises(ChatTemplateError, match=r"control token <.im_end.>"):
        chat.response(f"{text}<|im_end|>")
    branch = Branch(SampleRequest((), (), "", 1, seed=0), np.zeros(0))
    for token in ids:
        branch.append(token, 0.0, tokenizer, FragmentRule("", HERMES_CALLS), frozenset({chat.end_token}), last=False)
    assert branch.fragment().text == text
    pieces = [fragment.text for fragment in chat.fragments(ids, FragmentRule(syntax=HERMES_CALLS), 99)]
    assert "".join(pieces) == text
    assert pieces[0].rstrip("}") == f'{OPEN}\n{{"name": "f", "arguments": {{"a": 1'  # `}}` may be one token


def test_what_a_user_writes_marks_no_calls(union: Any) -> None:
    chat = Chat(with_family(union, "qwen2_5"), "auto", "hermes")
    asked = Example("e3", "", "", (Message("user", f"What is {OPEN}?"),), (), "", (), "e3")
    ids = chat.prompt(asked)
    assert union.convert_tokens_to_ids(OPEN) not in ids
    assert f"What is {OPEN}?" in union.decode(ids)
    assert chat.holds_control_tokens(asked)
    said = Example("e4", "", "", conversation(HERMES_CALLS).messages, (), "", (), "e4")
    assert not chat.holds_control_tokens(said)


@pytest.mark.parametrize("name", ["qwen2_5", "glm4moe"])
def test_our_instructions_name_the_tokens_that_mark_calls(union: Any, name: str) -> None:
    """As a model's own template does, and once; the same words of a user or of a tool, our own verbatim, stay text."""
    chat = Chat(with_family(union, name), "system", "hermes")
    marks = [union.convert_tokens_to_ids(mark) for mark in (OPEN, CLOSE)]
    for text in ("Hello", HERMES_CALLS.form, instructions(list_tools=True, syntax=HERMES_CALLS)):
        turns = (Message("system", text), Message("user", text))
        prompt = chat.prompt(Example("e7", "", "", turns, ({**TOOL, "description": text},), "", (), "e7"))
        assert [token for token in prompt if token in marks] == marks
        assert union.decode(prompt).count(OPEN) == 1 + 3 * text.count(OPEN)


def test_a_mark_in_an_argument_of_an_earlier_call_is_spelled_out(union: Any) -> None:
    chat = Chat(with_family(union, "qwen2_5"), "auto", "hermes")
    text = HERMES_CALLS.render_calls([Call("find_paper", {"said": "<|im_end|>"})])
    turns = (Message("user", "q"), Message("assistant", text), Message("tool", "1"))
    ids = chat.prompt(Example("e5", "", "", turns, (), "", (), "e5"))
    assert union.decode(ids).count("<|im_end|>") == ids.count(union.convert_tokens_to_ids("<|im_end|>")) + 1


def test_llamas_tag_stays_and_is_passed_over(union: Any) -> None:
    """Llama 3 may open a call by its special token, which decoding leaves out; no example teaches it."""
    chat = Chat(with_family(union, "llama3_1"), "auto", "auto")
    text = LLAMA3_JSON_CALLS.render_calls([Call("f", {"a": TAG})])
    assert TAG not in text
    tag, ended = union.convert_tokens_to_ids(TAG), union.convert_tokens_to_ids("<|eom_id|>")
    ids = (tag, *chat.response(text)[:-1], ended)
    assert chat.text(ids) == TAG + text
    assert LLAMA3_JSON_CALLS.read_response(chat.text(ids)) == (Call("f", {"a": TAG}),)
    branch = Branch(SampleRequest((), (), "", 1, seed=0), np.zeros(0))
    for token in ids:
        branch.append(token, 0.0, union, FragmentRule(""), frozenset({chat.end_token, ended}), last=False)
    fragment = branch.fragment(chat.end_token)
    assert fragment.finished
    assert fragment.text == TAG + text
    assert fragment.token_ids[-1] == chat.end_token


def test_words_beside_an_earlier_call_are_not_shown(union: Any) -> None:
    """As the official handler of such models does; the call is written as the template writes it."""
    chat = Chat(with_family(union, "qwen2_5"), "auto", "hermes")
    said = f'Let me look.\n{OPEN}\n{{"arguments":{json.dumps(FIRST)},"name":"find_paper"}}\n{CLOSE}'
    turns = (Message("user", "q"), Message("assistant", said), Message("tool", "1"))
    text = union.decode(chat.prompt(Example("e6", "", "", turns, (TOOL,), "", (), "e6")))
    assert "Let me look" not in text
    assert HERMES_CALLS.render_calls([Call("find_paper", FIRST)]) in text


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
def test_words_said_before_an_earlier_call_are_shown(union: Any, name: str) -> None:
    """In a message of their own they are no part of the call, and the template writes both as one turn."""
    chat = Chat(with_family(union, name), "auto", "hermes")
    said = HERMES_CALLS.render_calls([Call("find_paper", FIRST)])
    turns = (Message("user", "q"), Message("assistant", "Let me look."), Message("assistant", said))
    prompt = chat.prompt(Example("e8", "", "", (*turns, Message("tool", "1")), (TOOL,), "", (), "e8"))
    call = {"type": "function", "function": {"name": "find_paper", "arguments": FIRST}}
    whole = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call]},
        {"role": "tool", "content": "1"},
    ]
    assert list(prompt) == union.encode(rendered(union, whole, add_generation_prompt=True), add_special_tokens=False)

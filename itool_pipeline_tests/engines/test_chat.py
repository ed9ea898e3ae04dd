"""Prompts as token ids: what the model reads is the template's text, and the search can cut it where it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from itool_pipeline.config import ComputeConfig
from itool_pipeline.core.prompts import CANDIDATE, grade_messages, response_messages
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_model, load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError

TOOL = {"name": "get_weather", "description": "Weather of a city.", "parameters": {"properties": {"city": {}}}}


def example(*messages: Message) -> Example:
    return Example("e1", "bfcl", "simple", messages, (TOOL,), '[get_weather(city="Rome")]', (), "e1")


ASKED = example(Message("user", "Is it warm in Rome?"))


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return load_tokenizer(tiny_model_dir)


@pytest.fixture(scope="module")
def chat(tokenizer: Any) -> Chat:
    return Chat(tokenizer)


def test_the_prompt_is_the_template_s_text(chat: Chat, tokenizer: Any) -> None:
    turns = [{"role": m.role, "content": m.content} for m in response_messages(ASKED)]
    expected = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    text = tokenizer.decode(list(chat.prompt(ASKED)))
    assert text == expected
    assert "get_weather" in text
    assert text.count("Is it warm in Rome?") == 1
    assert text.endswith("<|im_start|>assistant\n")


def test_a_response_ends_with_the_end_token(chat: Chat, tokenizer: Any) -> None:
    tokens = chat.response(ASKED.response)
    assert tokens[-1] == tokenizer.eos_token_id == chat.end_token
    assert tokenizer.decode(list(tokens[:-1])) == ASKED.response
    assert chat.text(tokens) == ASKED.response


@pytest.mark.parametrize(
    "candidate", ["", "[", "[get_weather(", '[get_weather(city="Rome")]', "No tool fits.", " 日本, «x»\n"]
)
def test_the_grade_prompt_reads_as_one_text(chat: Chat, tokenizer: Any, candidate: str) -> None:
    """before + candidate + after + option, each tokenised on its own, is the template's text with the candidate in."""
    grade = chat.grade(ASKED)
    turns = [{"role": m.role, "content": m.content} for m in grade_messages(ASKED)]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered.count(CANDIDATE) == 1
    for option, letter in zip(grade.options, "ABCD", strict=True):
        tokens = [*grade.before, *tokenizer.encode(candidate), *grade.after, option]
        text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        assert text.startswith(rendered.replace(CANDIDATE, candidate))
        assert text.endswith(f"<|im_start|>assistant\nOption {letter}")


def test_only_the_end_of_the_grade_prompt_follows_the_candidate(chat: Chat, tokenizer: Any) -> None:
    grade = chat.grade(ASKED)
    before, after = tokenizer.decode(list(grade.before)), tokenizer.decode(list(grade.after))
    assert "get_weather" in before
    assert "Is it warm in Rome?" in before
    assert after == "<|im_end|>\n<|im_start|>assistant\nOption"
    assert CANDIDATE not in before + after


def test_the_answer_is_in_the_tokens_that_the_model_would_use(chat: Chat, tokenizer: Any) -> None:
    """A letter and the space before it are one token; a space alone would be followed by no letter."""
    grade = chat.grade(ASKED)
    assert [tokenizer.decode([option]) for option in grade.options] == [" A", " B", " C", " D"]
    closing = "<|im_end|>\n<|im_start|>assistant\n"
    for option, letter in zip(grade.options, "ABCD", strict=True):
        assert [*grade.after, option] == tokenizer.encode(f"{closing}Option {letter}", add_special_tokens=False)


@pytest.mark.slow
def test_the_model_expects_one_of_the_options(base_model_dir: Path) -> None:
    """The real model gives the four options most of its probability at that place, not a share of a thousandth."""
    loaded = load_model(base_model_dir, ComputeConfig(device="cpu", dtype="float32"))
    grade = Chat(loaded.tokenizer).grade(ASKED)
    ids = [*grade.before, *loaded.tokenizer.encode(ASKED.response), *grade.after]
    with torch.no_grad():
        probabilities = loaded.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    assert float(probabilities[list(grade.options)].sum()) > 0.5


def test_a_tool_s_result_is_a_turn_of_the_user(chat: Chat, tokenizer: Any) -> None:
    asked = example(
        Message("user", "Is it warm?"), Message("assistant", "[get_weather()]"), Message("tool", "31 degrees")
    )
    text = tokenizer.decode(list(chat.prompt(asked)))
    assert "<|im_start|>user\nResult: 31 degrees<|im_end|>" in text
    assert text.index("Is it warm?") < text.index("[get_weather()]") < text.index("31 degrees")


def test_a_tokenizer_without_a_chat_template_is_refused(tiny_model_dir: Path) -> None:
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="instruction-tuned"):
        Chat(tokenizer)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_model_dir: Path) -> None:
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    tokenizer.eos_token = None
    with pytest.raises(ChatTemplateError, match="no end token"):
        Chat(tokenizer)


def test_options_of_several_tokens_are_refused(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itool_pipeline.engines.chat.OPTIONS", ("First of all", "B", "C", "D"))
    with pytest.raises(ChatTemplateError, match="single tokens"):
        Chat(load_tokenizer(tiny_model_dir))

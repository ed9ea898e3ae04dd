"""Thoughts of an assistant: apart from its words in whatever form, and never half of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.data.conversations.thoughts import split_thoughts
from itool_pipeline.data.rows import RowError


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nhm\n</think>\n\nHello!",
        "<think>hm</think>Hello!",
        "<THINK>hm</THINK> Hello!",
        "<thinking>hm</thinking>\nHello!",
        "<reasoning>hm</reasoning>\nHello!",
        "<thought>hm</thought>Hello!",
        "<scratch_pad>hm</scratch_pad>Hello!",
        "<seed:think>hm</seed:think>Hello!",
        "[THINK]hm[/THINK]Hello!",
        "<|begin_of_thought|>hm<|end_of_thought|>Hello!",
        "<|START_THINKING|>hm<|END_THINKING|>Hello!",
        "◁think▷hm◁/think▷Hello!",
        "<longcat_think>hm</longcat_think>Hello!",
        "<inner_monologue>hm</inner_monologue>Hello!",
        "<thinking_process>hm</thinking_process>Hello!",
        "[Thinking]hm[/Thinking]Hello!",
        "<|channel>thought\nhm<channel|>Hello!",
        "<unused94>thought\nhm<unused95>Hello!",
        '<details type="reasoning" done="true">\nhm\n</details>\nHello!',
        "<think>hm</think>\n<answer>\nHello!\n</answer>",
        "<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>Hello!<|end_of_solution|>",
        "hm\n</think>\n\nHello!",
        "Hello!\n<think>hm</think>",
        "Thought: hm\nFinal Answer: Hello!",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|return|>",
        "<|start|>assistant<|channel|>analysis<|message|>hm<|channel|>final<|message|>Hello!",
    ],
)
def test_thoughts_are_apart_from_words(text: str) -> None:
    spoken = split_thoughts(text)
    assert (spoken.words, spoken.thoughts) == ("Hello!", ("hm",))


@pytest.mark.parametrize(
    ("text", "words", "thoughts"),
    [
        ("<think>\n\n</think>\n\nHello!", "Hello!", ()),
        ("<think>a</think>\n<think>b</think>Hello!", "Hello!", ("a", "b")),
        ("<think>a</think>Hello, <think>b</think>you!", "Hello, you!", ("a", "b")),
        ("<think>a <think> b</think> c\n</think>\nHello!", "Hello!", ("a <think> b", "c")),
        ("<think>I use <tool_call> now</think>\n<tool_call>{}", "<tool_call>{}", ("I use <tool_call> now",)),
        ("a\n</think>\nHello, <think>b</think>you!", "Hello, you!", ("a", "b")),
        ("<think>a</think>", "", ("a",)),
    ],
)
def test_blocks_are_cut_out_whole(text: str, words: str, thoughts: tuple[str, ...]) -> None:
    spoken = split_thoughts(text)
    assert (spoken.words, spoken.thoughts) == (words, thoughts)


@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "Write `<think>` and `</think>` around it.",
        "Use:\n```xml\n<think>a</think>\n```",
        '<tool_call>{"name": "f", "arguments": {"a": "<think>x</think>"}}</tool_call>',
        '[f(a="see <think>x</think>")]',
        '{"name": "f", "arguments": {"a": "see <think>x</think>"}}',
        "<details><summary>More</summary>It rains.</details>",
        "<answer>Hello!</answer>",
        "I think > 3 and reasoning < 5.",
        "Thought: hm\nAction: f\nAction Input: {}",
    ],
)
def test_what_is_no_thought_stays(text: str) -> None:
    spoken = split_thoughts(text)
    assert (spoken.words, spoken.thoughts) == (text, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>hm", "thoughts that do not end"),
        ("<|channel>thought\nhm", "thoughts that do not end"),
        ('<details type="reasoning" done="false">\nhm', "thoughts that do not end"),
        ("<think>\nhm\n\nHello!", "thoughts that do not end"),
        ("Hello!\n<think>hm", "thoughts that do not end"),
        ("[THINK]hm", "thoughts that do not end"),
        ("hm</think>Hello!", "thoughts that do not begin"),
    ],
)
def test_half_a_block_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RowError, match=f"^{reason}: "):
        split_thoughts(text)


def test_a_call_keeps_the_header_that_says_whose_it_is() -> None:
    call = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"
    spoken = split_thoughts(f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant{call}")
    assert spoken.words.endswith(call)
    assert spoken.thoughts == ("hm",)


PLAIN = st.text(alphabet="ab \n.", min_size=1, max_size=20).map(str.strip).filter(bool)


@settings(deadline=None)
@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=4))
def test_all_that_stands_between_tags_is_thought_and_all_else_words(parts: list[tuple[str, str]]) -> None:
    spoken = split_thoughts("".join(f"<think>{thought}</think>{words}" for thought, words in parts))
    assert spoken.thoughts == tuple(thought for thought, _ in parts)
    assert "".join(spoken.words.split()) == "".join("".join(words for _, words in parts).split())

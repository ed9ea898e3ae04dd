"""Thoughts before an answer, on small tokenizers of families that reason, by what transformers alone makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import SampleRequest
from itool_pipeline.core.prompts import response_messages
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.openai_messages import openai_messages, openai_tools
from itool_pipeline.engines.branches import Branch
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.drawing import Drawing
from itool_pipeline.engines.model import LoadedModel, load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline.engines.thinking import ThinkingTemplate, Thoughts, ThoughtSpan
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.engines.types import Engine, Sampling
from itool_pipeline_tests.engines.family_templates import family_templates, know_all_families
from itool_pipeline_tests.engines.plain_core import PlainCore
from itool_pipeline_tests.engines.test_greedy_answers import PROMPTS, greedy
from itool_pipeline_tests.engines.test_served_template import served_prompt
from itool_pipeline_tests.engines.test_vllm_requests import own_engine

FAMILIES = family_templates()
TOOL = {
    "name": "find_paper",
    "description": "Finds a paper.",
    "parameters": {"type": "object", "properties": {"said": {"type": "string", "description": "Words of it."}}},
}
ANSWERS = ['[find_paper(said="a & b")]', "In <2019>, & not before."]
THOUGHTS = ["They want, I think. (a) paper", "First: <this> & that.\n\nThen 日本 – so find_paper(said='x')!", "1"]
FIRST = Message("user", "Who wrote it, & when?")
SPOKEN = (Message("system", "Be kind."), FIRST, Message("assistant", "Ash, in 2019."), Message("user", "And this?"))
ONE_TURN = Example("e1", "own", "own", (FIRST,), (TOOL,), "", (), "e1")
SEVERAL = Example("e2", "own", "own", SPOKEN, (TOOL,), "", (), "e2")
TEXTS = [*ANSWERS, *THOUGHTS, "You can call the functions listed below.", "<think>\n</think>\n\n"]

QWEN3, SMOLLM3, R1, R1_DISTILL = "qwen3", "smollm3", "deepseekv3", "deepseek_r1_distill"
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
SPECIAL = {QWEN3: CHATML, SMOLLM3: CHATML, R1: DEEPSEEK, R1_DISTILL: DEEPSEEK}
ENDS = {QWEN3: "<|im_end|>", SMOLLM3: "<|im_end|>", R1: DEEPSEEK[1], R1_DISTILL: DEEPSEEK[1]}
SHOWN = {QWEN3: "\n</think>\n\n", SMOLLM3: "\n</think>\n", R1: "\n</think>\n\n", R1_DISTILL: "\n</think>\n\n"}
"""What stands between thoughts and answer."""


def small_tokenizer(family: str, *, tags: bool = True) -> Any:
    """Bytes and a few hundred words, the family's control tokens and template; `tags`: with tokens for its tags."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL[family]),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS * 3, trainer)
    bpe.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in ("<think>", "</think>") if tags])
    bos = DEEPSEEK[0] if DEEPSEEK[0] in SPECIAL[family] else None
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=ENDS[family], bos_token=bos)
    tokenizer.chat_template = FAMILIES[family]
    return tokenizer


def turns(asked: Example, answer: str | None = None, **further: str) -> list[dict[str, str]]:
    """By hand: what a template is given."""
    own: list[dict[str, str]] = [{"role": m.role, "content": m.content} for m in response_messages(asked)]
    return own if answer is None else [*own, {"role": "assistant", "content": answer, **further}]


def rendered(tokenizer: Any, conversation: list[dict[str, str]], **options: Any) -> list[int]:
    text = tokenizer.apply_chat_template(conversation, tokenize=False, enable_thinking=True, **options)
    return list(tokenizer.encode(text, add_special_tokens=False))


def span_of(chat: Chat) -> ThoughtSpan:
    assert chat.thoughts is not None
    return chat.thoughts


def whole(chat: Chat, asked: Example, thoughts: str, answer: str) -> list[int]:
    """Prompt, thoughts and answer as we put them together."""
    return [*span_of(chat).filled(chat.prompt(asked), thoughts), *chat.response(answer)]


@pytest.fixture(params=[True, False], ids=["tags are tokens", "tags are spelled"])
def tags(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize("asked", [ONE_TURN, SEVERAL], ids=["one turn", "several turns"])
def test_qwen3_reads_the_whole_conversation_with_reasoning(
    asked: Example, thoughts: str, answer: str, tags: bool
) -> None:
    tokenizer = small_tokenizer(QWEN3, tags=tags)
    expected = rendered(tokenizer, turns(asked, answer, reasoning_content=thoughts))
    found = whole(Chat(tokenizer, "system", thinking=True), asked, thoughts, answer)
    assert [*found, *tokenizer.encode("\n", add_special_tokens=False)] == expected


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize("asked", [ONE_TURN, SEVERAL], ids=["one turn", "several turns"])
def test_smollm3_reads_thoughts_that_its_answers_begin_with(
    asked: Example, thoughts: str, answer: str, tags: bool
) -> None:
    """Its template has no key for them: a turn's content is all that the model wrote."""
    tokenizer = small_tokenizer(SMOLLM3, tags=tags)
    chat = Chat(tokenizer, "system", thinking=True)  # which first tells the template what day it is
    expected = rendered(tokenizer, turns(asked, f"<think>\n{thoughts}\n</think>\n{answer}"))
    found = whole(chat, asked, thoughts, answer)
    assert [*found, *tokenizer.encode("\n", add_special_tokens=False)] == expected
    assert "Reasoning Mode: /think\n" in tokenizer.decode(chat.prompt(asked))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("thoughts", THOUGHTS)
@pytest.mark.parametrize("asked", [ONE_TURN, SEVERAL], ids=["one turn", "several turns"])
@pytest.mark.parametrize("family", [R1, R1_DISTILL])
def test_deepseek_goes_on_from_the_thoughts_that_its_prompt_opens(
    family: str, asked: Example, thoughts: str, answer: str, tags: bool
) -> None:
    tokenizer = small_tokenizer(family, tags=tags)
    opened = tokenizer.apply_chat_template(turns(asked), tokenize=False, add_generation_prompt=True)
    assert opened.endswith("<think>\n")
    text = f"{opened}{thoughts}\n</think>\n\n{answer}{ENDS[family]}"
    found = whole(Chat(tokenizer, "system", thinking=True), asked, thoughts, answer)
    assert found == tokenizer.encode(text, add_special_tokens=False)
    # In the next turn its template shows the same without the thoughts.
    later = rendered(tokenizer, turns(asked, f"<think>\n{thoughts}\n</think>{answer}"))
    assert tokenizer.decode(later) == tokenizer.decode(found).replace(f"<think>\n{thoughts}\n</think>\n\n", "")


@pytest.mark.parametrize("family", SPECIAL)
def test_the_model_thinks_where_the_template_s_prompt_ends_or_behind_its_opening_tag(family: str, tags: bool) -> None:
    tokenizer = small_tokenizer(family, tags=tags)
    chat = Chat(tokenizer, "system", thinking=True)
    prompt, span = chat.prompt(SEVERAL), span_of(chat)
    opened = rendered(tokenizer, turns(SEVERAL), add_generation_prompt=True)
    text = tokenizer.decode(opened).removesuffix("<think>\n") + "<think>\n"
    assert tokenizer.decode(span.begun(prompt)) == text
    assert span.filled(prompt, "") == prompt
    assert tokenizer.decode(prompt) == text + SHOWN[family]
    assert span.mark == "</think>"


@pytest.mark.parametrize("family", SPECIAL)
def test_what_was_thought_in_earlier_turns_is_not_shown(family: str) -> None:
    tokenizer = small_tokenizer(family)
    text = tokenizer.decode(Chat(tokenizer, "system", thinking=True).prompt(SEVERAL))
    before, shown, after = text.partition("Ash, in 2019.")
    assert shown
    assert "think>" not in before.partition("user")[2]
    assert after.count("<think>") == after.count("</think>") == 1


def test_qwen3_shows_no_earlier_thoughts_either() -> None:
    """What it makes of the same turns with their thoughts is what it makes of them without."""
    tokenizer = small_tokenizer(QWEN3)
    own = turns(SEVERAL, "It was, too.", reasoning_content="Hm.")
    own[2]["reasoning_content"] = "Earlier thoughts."
    assert own[2]["role"] == "assistant"
    found = whole(Chat(tokenizer, "system", thinking=True), SEVERAL, "Hm.", "It was, too.")
    assert tokenizer.decode(rendered(tokenizer, own)) == tokenizer.decode(found) + "\n"


@pytest.mark.parametrize("family", SPECIAL)
def test_the_grade_is_asked_for_without_thoughts(family: str) -> None:
    tokenizer = small_tokenizer(family)
    assert Chat(tokenizer, "system", thinking=True).grade(SEVERAL) == Chat(tokenizer, "system").grade(SEVERAL)


@pytest.mark.parametrize("family", SPECIAL)
def test_without_thinking_nothing_of_it_is_there(family: str) -> None:
    assert Chat(small_tokenizer(family), "system").thoughts is None


@pytest.mark.parametrize("family", SPECIAL)
def test_a_control_token_in_thoughts_ends_no_turn(family: str) -> None:
    tokenizer = small_tokenizer(family)
    chat = Chat(tokenizer, "system", thinking=True)
    prompt, end = chat.prompt(ONE_TURN), chat.end_token
    found = span_of(chat).filled(prompt, f"What if {ENDS[family]} stands here?")
    assert found.count(end) == prompt.count(end)
    assert f"What if {ENDS[family]} stands here?{SHOWN[family]}" in tokenizer.decode(found)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        ("Let me see, (b).\n</think>", ("Let me see, (b).", True)),
        ("Let me see, (b).\n</think>\n\n[f(", ("Let me see, (b).", True)),
        ("Let me see,", ("Let me see,", False)),
        ("\n</think>", ("", True)),
        ("", ("", False)),
    ],
)
def test_what_was_drawn_is_read(drawn: str, expected: tuple[str, bool], tags: bool) -> None:
    tokenizer = small_tokenizer(QWEN3, tags=tags)
    tokens = tokenizer.encode(drawn, add_special_tokens=False)
    text, closed = expected
    assert span_of(Chat(tokenizer, thinking=True)).read(tokens) == Thoughts(text, len(tokens), closed)


def test_a_prompt_without_a_place_for_thoughts_is_refused() -> None:
    tokenizer = small_tokenizer(QWEN3)
    span = span_of(Chat(tokenizer, thinking=True))
    with pytest.raises(ChatTemplateError, match="does not end in empty thoughts"):
        span.begun(tuple(rendered(tokenizer, turns(ONE_TURN), add_generation_prompt=True)))


@pytest.mark.parametrize("asked", [ONE_TURN, SEVERAL], ids=["one turn", "several turns"])
@pytest.mark.parametrize("family", SPECIAL)
def test_a_server_asks_where_the_model_thinks(family: str, asked: Example, tags: bool) -> None:
    """By the exported template; what the model then says in one go falls apart into thoughts and answer."""
    tokenizer = small_tokenizer(family, tags=tags)
    chat = Chat(tokenizer, "system", thinking=True)
    begun = chat.begun(chat.prompt(asked))
    drawn = tokenizer.encode(f"{THOUGHTS[1]}{SHOWN[family]}{ANSWERS[0]}", add_special_tokens=False)
    assert served_prompt(tokenizer, chat, openai_messages(asked, chat.syntax), openai_tools(asked.tools)) == begun
    behind = span_of(chat).behind(drawn)
    assert chat.text(behind) == span_of(chat).gap + ANSWERS[0]
    assert span_of(chat).behind(drawn[: -len(behind) - 1]) == ()


@pytest.fixture(scope="module")
def union(tiny_model_dir: Path) -> Any:
    """One tokenizer with the control tokens of all families."""
    return know_all_families(load_tokenizer(tiny_model_dir))


MARKS = {
    "</think>": {
        *(QWEN3, SMOLLM3, R1, R1_DISTILL, "glm4moe", "lfm2_2_5", "lfm2_2_5_v2", "lfm2_2_5_vl"),
        *("qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8"),
        *("nemotron_3_5_lightning", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"),
    },
    "<channel|>": {"diffusion_gemma", "gemma4_v5"},
    "<|end|>": {"gptoss"},
    "<|eom|>": {"muse_glimmer"},
}
"""What ends thoughts → families; those that are named nowhere know none."""


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_s_thoughts_are_found_or_refused(union: Any, name: str) -> None:
    """Where a template knows a turn's thoughts by a key, what it makes of them is what we make."""
    union.chat_template = FAMILIES[name]
    marks = [mark for mark, families in MARKS.items() if name in families]
    if not marks:
        with pytest.raises(
            ChatTemplateError, match=r"prompt\.thinking is on, and .* knows no thoughts.*to off, or use"
        ):
            Chat(union, "system", thinking=True)
        return
    chat = Chat(union, "system", thinking=True)
    assert [span_of(chat).mark] == marks
    served = served_prompt(union, chat, openai_messages(SEVERAL, chat.syntax), openai_tools(SEVERAL.tools))
    assert union.decode(served) == union.decode(chat.begun(chat.prompt(SEVERAL)))
    found = union.decode(whole(chat, ONE_TURN, THOUGHTS[1], ANSWERS[0]))
    own = [
        union.apply_chat_template(turns(ONE_TURN, ANSWERS[0], **{key: THOUGHTS[1]}), tokenize=False, thinking=True)
        for key in ("reasoning_content", "thinking")
    ]
    known = [text for text in own if THOUGHTS[1] in text]
    asked = FIRST.content
    # Where the template ends no turn, the tokenizer's end token does.
    assert all((text + "<|im_end|>").rpartition(asked)[2].startswith(found.rpartition(asked)[2]) for text in known)
    assert bool(known) is (name not in (SMOLLM3, R1, R1_DISTILL))


def test_a_template_that_opens_thoughts_and_shows_how_answers_without_them_begin(union: Any) -> None:
    """As DeepSeek-V3.1's: the closing tag alone stands before an answer without thoughts."""
    union.chat_template = (
        "{% for m in messages %}{{ '<｜User｜>' + m.content if m.role != 'assistant' else "
        "'<｜Assistant｜></think>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}{% endif %}"
    )
    form = ThinkingTemplate(union, "system").form
    assert (form.opening, form.closing) == ("think>", "</think>")
    chat = Chat(union, "system", thinking=True)
    text = union.decode(whole(chat, ONE_TURN, "Hm.", "No."))
    assert text.endswith(f"{FIRST.content}<｜Assistant｜><think>Hm.</think>No.<|im_end|>")


def test_a_template_that_opens_with_a_tag_which_nothing_closes_is_refused(union: Any) -> None:
    union.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<ponder>' }}{% endif %}"
    )
    with pytest.raises(ChatTemplateError, match="knows no thoughts"):
        Chat(union, "system", thinking=True)


def engines(loaded: LoadedModel, plain_model: Any) -> list[Engine]:
    """Both engines; their fragments end at what thoughts are full of."""
    sampling, rule = Sampling(temperature=9.0, max_fragment_tokens=2), FragmentRule("etaoin,.)")
    own = TransformersEngine(loaded, rule, sampling)
    return [own, own_engine(loaded, PlainCore(plain_model), rule, end_tokens=frozenset())]


def test_both_engines_think_until_the_same_mark_or_as_long_as_they_may(loaded: LoadedModel, plain_model: Any) -> None:
    """By greedy forward passes of transformers: no character of the search's ends them, and the mark does."""
    answers = [greedy(plain_model, prompt, 12) for prompt in PROMPTS]
    mark = loaded.tokenizer.decode(answers[0][3:6])
    expected = []
    for answer in answers:
        ends = [n for n in range(13) if mark in loaded.tokenizer.decode(answer[:n])]
        expected.append(answer[: ends[0]] if ends else answer)
    assert len(expected[0]) == 6
    assert any(len(row) == 12 for row in expected)
    for engine in engines(loaded, plain_model):
        assert engine.answer(PROMPTS, 12, mark) == expected
        assert [len(row) for row in engine.answer(PROMPTS, 5, mark)] == [5] * len(PROMPTS)


@pytest.mark.parametrize("before", ["", "a", "so «b» – 日本 ", "</think", "x" * 40])
def test_a_mark_is_seen_in_the_last_tokens_alone(before: str, tags: bool) -> None:
    """Thoughts are long: what is looked through for their end is no longer than the mark can be."""
    tokenizer = small_tokenizer(QWEN3, tags=tags)
    drawing = Drawing(tokenizer, FragmentRule(), Sampling(), None, frozenset()).of_answers(99, "</think>")
    assert drawing.tail is not None
    tokens = tokenizer.encode(f"{before}</think>", add_special_tokens=False)
    branch = Branch(SampleRequest((1,), (), "", 1, seed=0), np.zeros(99), drawing.tail)
    for token in [*tokens, *tokenizer.encode("and on", add_special_tokens=False)]:
        if branch.done:
            break
        branch.append(token, 0.0, tokenizer, drawing.rule, frozenset(), last=False)
    assert list(branch.fragment().token_ids) == tokens

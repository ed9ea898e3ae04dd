"""Every family's chat template: a prompt holds each text of its conversation, or the template is refused at once."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline_tests.engines.family_templates import HOPELESS, family_templates, know_all_families

FAMILIES = family_templates()
WITHOUT_SYSTEM_ROLE = {"gemma", "mistral_v1"}
BY_TEMPLATE = {
    *(name for name in FAMILIES if name.startswith(("gemma4", "lfm2", "nemotron", "qwen3"))),
    *("diffusion_gemma", "glm4moe", "gptoss", "llama3_1", "llama3_2", "muse_glimmer", "qwen2_5"),
    *("mistral_v3", "pixtral", "granite", "smollm3"),
}
"""Families whose templates show tools."""
WITH_A_SWITCH = ["glm4moe", "nemotron_3_nano", "qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "smollm3"]
"""Families with a mode without thoughts."""

TOOL = {
    "name": "find_paper",
    "description": "Finds a paper by what it says.",
    "parameters": {
        "type": "object",
        "properties": {
            "said": {"type": "string", "description": "Words of the paper."},
            "within": {"type": "object", "properties": {"last_year": {"type": "integer"}}},
        },
        "required": ["said"],
    },
}
TURNS = [
    "Who wrote on «trees» & <forests>?",
    '[find_paper(said="trees")]',
    "Ash & Oak, 2019",
    "Ash and Oak did.",
    "  When?\n",
]
ROLES = ["user", "assistant", "tool", "assistant", "user"]
SYSTEM = "You work in a library.\nBe kind."
ASKED = Example(
    "e1",
    "own",
    "own",
    (Message("system", SYSTEM), *(Message(role, text) for role, text in zip(ROLES, TURNS, strict=True))),
    (TOOL,),
    "",
    (),
    "e1",
)
RESPONSES = ['[find_paper(said="a & b")]', "In <2019>, & not before."]


@pytest.fixture(scope="module")
def union(tiny_model_dir: Path) -> Any:
    """One tokenizer with the control tokens of all families."""
    return know_all_families(load_tokenizer(tiny_model_dir))


def with_family(tokenizer: Any, name: str) -> Any:
    tokenizer.chat_template = FAMILIES[name]
    return tokenizer


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("tools", ["auto", "system"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_holds_every_text(union: Any, name: str, tools: Any) -> None:
    chat = Chat(with_family(union, name), tools)
    assert chat.has_system_role is (name not in WITHOUT_SYSTEM_ROLE)
    assert chat.tools_shown_by == ("template" if tools == "auto" and name in BY_TEMPLATE else "system")
    text = squeezed(union.decode(chat.prompt(ASKED)))
    places = [text.index(squeezed(turn)) for turn in TURNS]
    assert places == sorted(places)
    instructions = (
        "You can call functions." if chat.tools_shown_by == "template" else "You can call the functions listed"
    )
    for said in (SYSTEM, instructions, "find_paper", "Finds a paper by what it says.", "said", "last_year"):
        assert squeezed(said) in text
    assert text.count(squeezed(SYSTEM)) == 1


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_and_response_end_as_the_template_ends_the_conversation(union: Any, name: str, response: str) -> None:
    """By transformers alone: what it makes of the last question and its answer, in the mode without thoughts."""
    chat = Chat(with_family(union, name), "system")
    found = union.decode([*chat.prompt(ASKED), *chat.response(response)])
    turns: list[dict[str, Any]] = [{"role": "user", "content": TURNS[-1]}, {"role": "assistant", "content": response}]
    if name in ("idefics3", "smolvlm", "llava_next"):
        turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    whole = union.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    ending = squeezed(whole).rpartition("When?")[2]
    assert ending
    assert (ending + "<|im_end|>").startswith(squeezed(found).rpartition("When?")[2])
    assert squeezed(response) in squeezed(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_grade_is_asked_for_where_an_answer_begins(union: Any, name: str) -> None:
    chat = Chat(with_family(union, name), "system")
    grade, prompt = chat.grade(ASKED), union.decode(chat.prompt(ASKED))
    opening = squeezed(prompt).rpartition("When?")[2]
    assert squeezed(union.decode(grade.after)) == f"{opening}Option"
    before = squeezed(union.decode(grade.before))
    for text in (SYSTEM, *TURNS, "find_paper", "You grade how an assistant uses functions."):
        assert squeezed(text) in before


@pytest.mark.parametrize("name", WITH_A_SWITCH)
def test_an_answer_begins_where_the_mode_without_thoughts_puts_it(union: Any, name: str) -> None:
    chat = Chat(with_family(union, name), "system")
    turns = [{"role": "user", "content": TURNS[-1]}]
    opened = union.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    prompt = union.decode(chat.prompt(ASKED))
    assert prompt.rpartition("When?")[2].strip() == opened.rpartition("When?")[2].strip()
    assert "think>" in prompt.rpartition("When?")[2]


@pytest.mark.parametrize("name", ["gptoss", "granite", "llama3_2", "smollm3"])
def test_tomorrow_s_prompts_are_today_s(union: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Chat(with_family(union, name)).prompt(ASKED)
    turns = [{"role": "user", "content": "q"}]
    today = union.apply_chat_template(turns, tokenize=False)

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Tomorrow:
            return cls(2031, 5, 6)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    union.chat_template += "{# compiled anew #}"
    assert Chat(union).prompt(ASKED) == before
    assert union.apply_chat_template(turns, tokenize=False) == today
    text = union.decode(before)
    assert any(day in text for day in ("26 Jul 2024", "26 July 2024", "July 26, 2024", "2024-07-26"))


@pytest.mark.parametrize("name", HOPELESS)
@pytest.mark.parametrize("tools", ["auto", "system"])
def test_a_hopeless_template_is_refused_at_once(union: Any, name: str, tools: Any) -> None:
    union.chat_template, words = HOPELESS[name]
    with pytest.raises(ChatTemplateError, match=words) as caught:
        Chat(union, tools)
    assert "Use an instruction-tuned model with another chat template" in str(caught.value)


def test_the_template_s_own_words_are_told_for_each_way_that_was_tried(union: Any) -> None:
    union.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}{% endif %}"
        "{{ raise_exception('Nothing else either') }}"
    )
    with pytest.raises(ChatTemplateError, match=r"No system here; or otherwise: .*Nothing else either"):
        Chat(union)


def test_a_system_text_before_an_assistant_who_speaks_first_is_a_turn_of_its_own(union: Any) -> None:
    chat = Chat(with_family(union, "gemma"))
    spoke = Example("e2", "", "", (Message("assistant", "Hello!"), Message("user", "Hi.")), (), "", (), "e2")
    text = union.decode(chat.prompt(spoke))
    assert text.startswith("<s><start_of_turn>user\nYou can call the functions")
    assert "<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n<start_of_turn>user\nHi.<end_of_turn>" in text


def test_system_text_stands_before_the_first_user_s_words(union: Any) -> None:
    text = union.decode(Chat(with_family(union, "mistral_v1")).prompt(ASKED))
    assert f"{SYSTEM}\n\n{TURNS[0]} [/INST]" in text
    assert text.count(SYSTEM) == 1


NAMES_ONLY = "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}"


def test_a_template_that_shows_tools_by_name_alone_does_not_show_them(union: Any) -> None:
    union.chat_template = NAMES_ONLY + FAMILIES["qwen2_5_vl"]
    assert Chat(union).tools_shown_by == "system"
    with pytest.raises(ChatTemplateError, match=r"does not show tools with all their parameters; set it to `auto`"):
        Chat(union, "template")


def test_a_text_that_the_template_drops_for_what_it_says_is_refused_by_the_example_s_id(union: Any) -> None:
    """SmolLM3's takes /think out of system texts."""
    chat = Chat(with_family(union, "smollm3"))
    asked = Example("e3", "", "", (Message("system", "Paths: /think/a"), Message("user", "q")), (), "", (), "e3")
    with pytest.raises(
        ChatTemplateError, match=r"e3: the chat template leaves out a text of the conversation: 'You can"
    ):
        chat.prompt(asked)


def test_a_long_text_that_the_template_cuts_is_refused(union: Any) -> None:
    union.chat_template = (
        FAMILIES["qwen2_5_vl"]
        .replace("message['content'] is string", "true")
        .replace("{{ message['content'] }}", "{{ message['content'] | truncate(1200, true, '') }}")
    )
    assert "truncate" in union.chat_template
    long = Example("e4", "", "", (Message("user", "long " * 300),), (), "", (), "e4")
    with pytest.raises(ChatTemplateError, match=r"e4: .* leaves out .*'(long ){15}lo\.\.\.'"):
        Chat(union).prompt(long)


def test_texts_that_a_template_quotes_as_json_are_held(union: Any) -> None:
    union.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if m.role == 'assistant' else m.content | tojson(ensure_ascii=true) }}<|im_end|>\n{% endfor %}"
    )
    text = union.decode(Chat(union).prompt(ASKED))
    assert r'"Who wrote on \u00abtrees\u00bb & <forests>?"' in text


def test_what_an_assistant_thought_earlier_is_not_shown(union: Any) -> None:
    chat = Chat(with_family(union, "qwen3"))
    said = [Message("user", "q"), Message("assistant", "<think>\nhm\n</think>\n\nHello!"), Message("user", "r")]
    text = union.decode(chat.prompt(Example("e5", "", "", tuple(said), (), "", (), "e5")))
    assert "<|im_start|>assistant\nHello!<|im_end|>" in text
    assert "hm" not in text.partition("user\nq")[2]


def test_one_template_with_tools_and_one_without(union: Any) -> None:
    union.chat_template = {"default": FAMILIES["qwen2_5_vl"], "tool_use": FAMILIES["qwen2_5"]}
    assert Chat(union).tools_shown_by == "template"
    assert "<tools>" in union.decode(Chat(union).prompt(ASKED))
    union.chat_template = {"tool_use": FAMILIES["qwen2_5"]}
    with pytest.raises(ChatTemplateError, match="multiple chat templates with no default"):
        Chat(union)


def test_what_opens_an_answer_is_part_of_a_prompt_that_the_template_makes_itself(union: Any) -> None:
    union.chat_template = FAMILIES["mistral_v3"].replace("{{- ' ' + message", "{{- '<think></think>' + message")
    text = union.decode(Chat(union, "system").prompt(ASKED))
    assert text.endswith("When?\n[/INST]<think></think>")
    assert text.count(SYSTEM) == 1

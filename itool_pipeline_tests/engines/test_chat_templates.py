"""Prompt and response over several chat templates: together they are the tokens of the whole conversation."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from itool_pipeline.core.prompts import response_messages
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.template_rendering import ChatTemplateError

INST = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}<<SYS>>{{ message.content }}<</SYS>>
{%- elif message.role == 'user' -%}{{ ' [INST] ' + message.content + ' [/INST]' }}
{%- else -%}{{ ' ' + message.content.strip() + ' ' + eos_token }}{%- endif -%}
{%- endfor -%}"""
"""A space on either side of the answer, and nothing that opens it."""

ROLES = """\
{%- for message in messages -%}{{ message.role.upper() + ': ' + message.content + '\\n' }}
{%- if message.role == 'assistant' -%}{{ '<|endoftext|>\\n' }}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT: ' }}{%- endif -%}"""
"""The prompt ends in a space, the answer in a line break; the turn in another token than the tokenizer's own."""

TIGHT = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}{{ message.content + eos_token }}
{%- else -%}{{ '[' + message.role + ']' + message.content + '[/' + message.role + ']' }}{%- endif -%}
{%- endfor -%}"""
"""Nothing stands between the bracket that ends the prompt and the one that opens a call."""

THINKING = """\
{%- if tools -%}{{ '<|im_start|>system\\n# Tools\\n' }}{%- for tool in tools -%}{{ tool | tojson + '\\n' }}
{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endif -%}
{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and loop.last -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{{ message.content + '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""
"""Knows tools, and puts an empty thought before the answer, which its generation prompt does not."""

STRICT = """\
{%- for message in messages -%}
{%- set odd = (loop.index0 + (messages[0].role != 'system') | int) % 2 == 1 -%}
{%- if message.role != 'system' and (message.role == 'user') != odd -%}
{{ raise_exception('turns must alternate') }}{%- endif -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

TEMPLATES = {"inst": INST, "roles": ROLES, "tight": TIGHT, "thinking": THINKING, "strict": STRICT}

TOOL = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": {"type": "dict", "properties": {"city": {"type": "string"}, "type": {"type": "float"}}},
}
RESPONSES = [
    '[get_weather(city="Rome"), get_weather(city="Oslo", type=1.5)]',
    "No function can tell.",
    "日本 – «x» e\u0301 🙂",
    "two\nlines",
    ")(",
]


def example(*messages: Message, tools: tuple[Any, ...] = (TOOL,)) -> Example:
    return Example("e1", "bfcl", "simple", messages, tools, "", (), "e1")


ASKED = example(Message("user", "Is it warm in Rome?"))
LONG = example(
    Message("system", "Today is Monday."),
    Message("user", "Is it warm?"),
    Message("assistant", "[get_weather()]"),
    Message("tool", "31"),
    Message("user", "And in Rome? "),
)


@pytest.fixture(scope="module")
def byte_level(tiny_model_dir: Path) -> Any:
    """SmolLM2's tokenizer: bytes, words with the space before them."""
    tokenizer: Any = load_tokenizer(tiny_model_dir)
    TEMPLATES["smollm2"] = tokenizer.chat_template
    return tokenizer


@pytest.fixture(scope="module")
def metaspace(byte_level: Any) -> Any:
    """As sentencepiece does it: a space is a letter that begins a word, and one is put before the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    spaces = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "isolated"), spaces])
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<unk>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        initial_alphabet=[*string.printable, "▁"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"ASSISTANT: {r} [/INST] {r} [{r}" for r in RESPONSES], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.fixture(params=["byte_level", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def with_template(tokenizer: Any, name: str) -> Any:
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


def conversation(asked: Example, response: str) -> list[dict[str, str]]:
    """By hand: what the template is given for the whole conversation."""
    turns = [*response_messages(asked, list_tools=True), Message("assistant", response)]
    result = {"role": "user", "content": "Result: 31\nAnd in Rome? "}
    rendered = [{"role": m.role, "content": m.content} for m in turns]
    if asked is LONG:
        rendered[3:5] = [result]
    return rendered


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("asked", [ASKED, LONG], ids=["one turn", "several turns"])
@pytest.mark.parametrize("name", ["smollm2", "inst", "roles", "thinking", "strict"])
def test_prompt_and_response_are_the_whole_conversation(
    tokenizer: Any, name: str, asked: Example, response: str
) -> None:
    chat = Chat(with_template(tokenizer, name), "system")
    text = tokenizer.apply_chat_template(conversation(asked, response), tokenize=False)
    whole = tokenizer.encode(text, add_special_tokens=False)
    found = [*chat.prompt(asked), *chat.response(response)]
    assert found == whole[: len(found)]
    rest = tokenizer.decode(whole[len(found) :])
    assert rest.strip() == ""  # the line break after the end of the turn
    assert not chat.tokenised_alone(response)
    assert tokenizer.decode([chat.end_token]) in ("<|im_end|>", "</s>", "<|endoftext|>")


@pytest.mark.parametrize("response", RESPONSES)
def test_where_the_tokenizer_joins_prompt_and_response_the_prompt_stays(byte_level: Any, response: str) -> None:
    """`][` and `])` are single tokens of SmolLM2's; where it generates, the model has read the first half already."""
    chat = Chat(with_template(byte_level, "tight"), "system")
    text = byte_level.apply_chat_template(conversation(ASKED, response), tokenize=False)
    whole = byte_level.encode(text, add_special_tokens=False)
    prompt, answer = chat.prompt(ASKED), chat.response(response)
    assert byte_level.decode([*prompt, *answer]) == byte_level.decode(whole) == text
    joined = whole[: len(prompt)] != list(prompt)
    assert joined is response.startswith(("[", ")"))
    assert chat.tokenised_alone(response) is joined
    assert joined or [*prompt, *answer] == whole


def test_an_empty_response_is_the_end_alone(tokenizer: Any) -> None:
    chat = Chat(with_template(tokenizer, "smollm2"))
    assert chat.response("") == (chat.end_token,)


def test_the_end_of_a_turn_is_the_templates(byte_level: Any) -> None:
    ends = {name: Chat(with_template(byte_level, name), "system").end_token for name in ("smollm2", "inst", "roles")}
    assert {name: byte_level.decode([token]) for name, token in ends.items()} == {
        "smollm2": "<|im_end|>",
        "inst": "<|im_end|>",  # the tokenizer's own
        "roles": "<|endoftext|>",
    }


@pytest.mark.parametrize(("asked", "shown"), [("auto", "template"), ("template", "template"), ("system", "system")])
def test_a_template_that_knows_tools(byte_level: Any, asked: Any, shown: str) -> None:
    chat = Chat(with_template(byte_level, "thinking"), asked)
    text = byte_level.decode(chat.prompt(ASKED))
    assert chat.tools_shown_by == shown
    assert text.count("get_weather") == 1
    assert ("# Tools" in text) is (shown == "template")
    if shown == "template":
        schema = '{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city.", '
        properties = '{"city": {"type": "string"}, "type": {"type": "number"}}'
        assert f'{schema}"parameters": {{"type": "object", "properties": {properties}}}}}}}\n' in text
        assert "[name(parameter=value, ...), ...]" in text
        assert "Functions:" not in text


def test_no_tools_are_none_to_show(byte_level: Any) -> None:
    chat = Chat(with_template(byte_level, "thinking"))
    assert "# Tools" not in byte_level.decode(chat.prompt(example(Message("user", "q"), tools=())))


@pytest.mark.parametrize("name", ["smollm2", "inst", "roles", "tight"])
def test_a_template_that_does_not(byte_level: Any, name: str) -> None:
    tokenizer = with_template(byte_level, name)
    assert Chat(tokenizer).tools_shown_by == "system"
    assert Chat(tokenizer).prompt(ASKED) == Chat(tokenizer, "system").prompt(ASKED)
    with pytest.raises(ChatTemplateError, match=r"prompt\.tools is `template`, but .* does not show tools"):
        Chat(tokenizer, "template")


def test_a_template_that_mentions_tools_without_showing_them_does_not(byte_level: Any) -> None:
    byte_level.chat_template = "{% if tools %}You have tools.{% endif %}" + (INST)
    assert Chat(byte_level).tools_shown_by == "system"


ESCAPED = STRICT.replace("+ message.content +", "+ (message.content | e) +")
TRIMMED = STRICT.replace("+ message.content +", "+ message.content | trim +")
OTHER_END = THINKING.replace(
    "'<|im_end|>\\n' }}{%- endfor", "('<|endoftext|>' if tools else '<|im_end|>') }}{%- endfor"
)


def test_a_turn_that_tools_end_otherwise_is_refused_and_the_system_message_helps(byte_level: Any) -> None:
    byte_level.chat_template = OTHER_END
    with pytest.raises(
        ChatTemplateError, match=r"of .*tiny_model.* or how its turn ends.* set prompt\.tools to `system`"
    ):
        Chat(byte_level)
    assert Chat(byte_level, "system").tools_shown_by == "system"


def test_a_template_that_changes_the_answers_text_is_refused(tokenizer: Any) -> None:
    assert ESCAPED != STRICT
    tokenizer.chat_template = ESCAPED
    with pytest.raises(ChatTemplateError, match=r"trained on what it never reads\. use a model with another"):
        Chat(tokenizer)


def test_a_template_that_trims_is_not_refused(tokenizer: Any) -> None:
    assert TRIMMED != STRICT
    tokenizer.chat_template = TRIMMED
    assert tokenizer.decode(Chat(tokenizer).response("No.")).endswith("No.<|im_end|>")


def test_turns_of_one_speaker_are_joined(byte_level: Any) -> None:
    asked = example(Message("user", "a"), Message("user", "b"), Message("assistant", "c"), Message("tool", "d"))
    text = byte_level.decode(Chat(with_template(byte_level, "strict")).prompt(asked))
    assert "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n<|im_start|>user\nResult: d" in text


def test_a_conversation_that_the_template_refuses_is_named(byte_level: Any) -> None:
    chat = Chat(with_template(byte_level, "strict"))
    with pytest.raises(ChatTemplateError, match="e1: the chat template refuses the conversation: turns must alternate"):
        chat.prompt(example(Message("assistant", "Hello!"), Message("user", "q")))


def test_a_template_that_leaves_answers_out_is_refused(byte_level: Any) -> None:
    byte_level.chat_template = (
        "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
    )
    with pytest.raises(ChatTemplateError, match="leaves out what the assistant says"):
        Chat(byte_level)

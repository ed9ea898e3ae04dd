"""The exported chat template makes of a client's conversation the prompt that training made, token for token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from itool_pipeline.calls.served import SERVED, ServedSyntax
from itool_pipeline.calls.syntaxes import in_syntax
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.containers import FileRow
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.openai_messages import openai_answer, openai_calls, openai_messages, openai_tools
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.served_template import served_template
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline_tests.engines.family_templates import family_templates, know_all_families

PYTHON = SERVED["python"]
JSON = tuple(served for served in SERVED.values() if served is not PYTHON)
FAMILIES = family_templates()
JOINS_LINE_BREAKS = {
    *("llama3", "llama3_1", "llama3_2", "qwen3", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_8"),
}
"""Their prompts end in two line breaks, which SmolLM2's tokenizer joins where nothing follows, and their own always."""
LINE_BREAK = 198
TOOLS = (
    {
        "name": "find_paper",
        "description": "Finds a paper by what it says: «words».",
        "parameters": {
            "type": "object",
            "properties": {
                "said": {"type": "string", "description": "Words of the paper."},
                "within": {"type": "object", "properties": {"last_year": {"type": "integer"}}},
            },
            "required": ["said"],
        },
    },
    {"name": "library.lend", "description": "Lends a book.", "parameters": {"type": "object", "properties": {}}},
)
VALUES = Call(
    "find_paper",
    {
        "said": 'trees & "woods"\n\tof C:\\ \x07\x85 «é» \U0001f333',
        "within": {"last_year": 2019, "open": True, "by": None, "x": [1, -2.5, 1e30, [], {}, ["a", False]]},
        "empty": "",
    },
)
"""Every kind of value that JSON has, and every kind of character that is escaped."""


def asked(*turns: tuple[str, str], tools: tuple[Any, ...] = TOOLS) -> Example:
    return Example("e1", "own", "own", tuple(Message(*turn) for turn in turns), tools, "", (), "e1")


def called(said: str) -> Example:
    """A conversation with calls and a result."""
    return asked(
        ("system", "You work in a library.\nBe kind."),
        ("user", "Who wrote on «trees» & <forests>?"),
        ("assistant", said),
        ("tool", '{"by": "Ash & Oak"}'),
        ("assistant", "Ash and Oak did."),
        ("user", "  When?  "),
    )


CALLED = PYTHON.syntax.render_calls([VALUES, Call("library.lend", {})])
CONVERSATIONS = {
    "one turn": asked(("user", "Who wrote on trees?")),
    "a system text": asked(("system", "Be kind."), ("user", "Who?")),
    "two system texts": asked(("system", "Be kind."), ("system", "Be brief."), ("user", "Who?")),
    "calls and a result": called(CALLED),
    "one speaker twice": asked(
        ("user", "Who?"), ("user", "And when?"), ("assistant", "Ash."), ("assistant", "In 2019."), ("user", "Sure?")
    ),
    "a thought": asked(("user", "Who?"), ("assistant", "<think>\nHm.\n</think>\n\nAsh."), ("user", "Sure?")),
    "what objects cannot say": asked(
        ("user", "Who?"), ("assistant", '[find_paper("trees", within=(1, 2))]'), ("tool", "Ash"), ("user", "Sure?")
    ),
}
OF_PYTHON = ("calls and a result", "what objects cannot say")


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    """One with the control tokens of all families."""
    return know_all_families(load_tokenizer(tiny_model_dir))


def in_other_syntax(example: Example, served: ServedSyntax) -> Example:
    """The example with what the assistant says in another syntax than Python's."""
    names = [str(tool["name"]) for tool in example.tools]
    said = (
        replace(m, content=in_syntax(m.content, served.syntax, names)) if m.role == "assistant" else m
        for m in example.messages
    )
    return replace(example, messages=tuple(said))


def served_prompt(tokenizer: Any, chat: Chat, messages: Any, tools: Any) -> tuple[int, ...]:
    """Token ids of the prompt as a server makes it of the exported template."""
    template = served_template(chat.template, SERVED[chat.syntax.name])
    own, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        ids = tokenizer.apply_chat_template(
            messages, tools=tools or None, add_generation_prompt=True, tokenize=True, return_dict=False
        )
    finally:
        tokenizer.chat_template = own
    return tuple(ids)


def tools_of(chat: Chat, example: Example) -> Any:
    return openai_tools(example.tools, types=chat.tools_shown_by == "template")


def require_same_prompts(tokenizer: Any, family: str, chat: Chat, examples: Mapping[str, Example]) -> None:
    refused = 0
    for name, example in examples.items():
        try:
            wanted = chat.prompt(example)
        except ChatTemplateError:
            refused += 1
            continue
        found = served_prompt(tokenizer, chat, openai_messages(example, chat.syntax), tools_of(chat, example))
        if family in JOINS_LINE_BREAKS:
            assert tokenizer.decode(found) == tokenizer.decode(wanted), name
            assert wanted[-2:] == (LINE_BREAK, LINE_BREAK)
        else:
            assert found == wanted, name
    assert refused <= 1


@pytest.mark.parametrize("place", ["auto", "system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_served_prompt_is_the_prompt_of_training(tokenizer: Any, family: str, place: Any) -> None:
    """Oracle: `Chat.prompt`, for the template of every family."""
    tokenizer.chat_template = FAMILIES[family]
    require_same_prompts(tokenizer, family, Chat(tokenizer, place), CONVERSATIONS)


@pytest.mark.parametrize("served", JSON, ids=lambda served: served.syntax.name)
@pytest.mark.parametrize("place", ["auto", "system"])
@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_is_with_calls_in_json(tokenizer: Any, family: str, place: Any, served: ServedSyntax) -> None:
    """Oracle as before, with one call and several, and marks of the syntax in a text."""
    tokenizer.chat_template = FAMILIES[family]
    chat = Chat(tokenizer, place, served.syntax.name)
    one, two = VALUES, Call("library.lend", {"to": "".join(served.syntax.tokens)})
    turns = {"one call": [one], "several calls": [one, two]}
    examples = {
        **{name: called(served.syntax.render_calls(calls)) for name, calls in turns.items()},
        "words before a call": asked(
            ("user", "Who?"),
            ("assistant", "One moment."),
            ("assistant", served.syntax.render_calls([one])),
            ("tool", "Ash"),
            ("user", "Sure?"),
        ),
        **{name: in_other_syntax(example, served) for name, example in CONVERSATIONS.items() if name not in OF_PYTHON},
    }
    require_same_prompts(tokenizer, family, chat, examples)


@pytest.mark.parametrize(
    ("family", "served"), [("qwen2_5", "hermes"), ("qwen3", "hermes"), ("llama3_1", "llama3_json")]
)
def test_a_template_that_writes_calls_itself_is_left_as_it_is(tokenizer: Any, family: str, served: Any) -> None:
    """Oracle: the family's own template, asked by transformers."""
    tokenizer.chat_template = FAMILIES[family]
    chat = Chat(tokenizer, "auto", served)
    assert chat.is_untouched
    messages = [
        {"role": "user", "content": "Who wrote on trees?"},
        {"role": "assistant", "content": "", "tool_calls": [call("a", "find_paper", said="«trees» & <forests>")]},
        result("a", "Ash & Oak"),
    ]
    asked = {"tools": openai_tools(TOOLS), "add_generation_prompt": True, "tokenize": False}
    own = tokenizer.apply_chat_template(messages, **asked, **chat.template.switches)
    made = tokenizer.decode(served_prompt(tokenizer, chat, messages, openai_tools(TOOLS)))
    assert made == own + chat.template.bridge
    assert "reply with nothing but" not in made


def test_calls_are_handed_over_as_objects() -> None:
    messages = openai_messages(CONVERSATIONS["calls and a result"], PYTHON.syntax)
    assert messages[2]["tool_calls"] == openai_calls([VALUES, Call("library.lend", {})])
    assert "tool_calls" not in openai_messages(CONVERSATIONS["what objects cannot say"], PYTHON.syntax)[1]
    assert openai_answer("[f(a=1)]", PYTHON.syntax)["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}


def result(identity: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def call(identity: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


CLIENTS = {
    "a result": [call("a", "find_paper", said="x")],
    "results in another order": [call("a", "find_paper", said="x"), call("b", "library.lend")],
    "the same function twice": [call("a", "find_paper", said="x"), call("b", "find_paper", said="y")],
    "the same call twice": [call("a", "find_paper", said="x"), call("b", "find_paper", said="x")],
}


@pytest.mark.parametrize("served", SERVED)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_clients_results_are_shown_as_the_reader_of_data_shows_them(
    tokenizer: Any, tiny_model_dir: Path, name: str, served: Any
) -> None:
    """Oracle: the reader of OpenAI's layout and `Chat.prompt`, given the same messages as a row of data."""
    tokenizer.chat_template = load_tokenizer(tiny_model_dir).chat_template
    calls = CLIENTS[name]
    messages = [
        {"role": "user", "content": "Who wrote on trees?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        *(result(one["id"], f"result of {one['id']}") for one in reversed(calls)),
        {"role": "assistant", "content": "Ash did."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    tools = openai_tools(TOOLS)
    row = json.dumps({"messages": messages, "tools": tools})
    *_, example = (row for row in chat_rows([FileRow(0, 1, "line 1", row.encode())]) if isinstance(row, Example))
    for own in (None, FAMILIES["qwen2_5"]):
        tokenizer.chat_template = own or tokenizer.chat_template
        chat = Chat(tokenizer, calls=served)
        wanted = chat.prompt(in_other_syntax(example, SERVED[served]))
        assert served_prompt(tokenizer, chat, messages[:-1], tools) == wanted


def test_contents_may_come_in_parts(tokenizer: Any, tiny_model_dir: Path) -> None:
    tokenizer.chat_template = load_tokenizer(tiny_model_dir).chat_template
    chat, example = Chat(tokenizer), CONVERSATIONS["two system texts"]
    parts = [
        {"role": message.role, "content": [{"type": "text", "text": message.content}]} for message in example.messages
    ]
    assert served_prompt(tokenizer, chat, parts, openai_tools(TOOLS)) == chat.prompt(example)


def test_without_tools_the_list_is_empty(tokenizer: Any, tiny_model_dir: Path) -> None:
    tokenizer.chat_template = load_tokenizer(tiny_model_dir).chat_template
    chat, example = Chat(tokenizer), replace(CONVERSATIONS["one turn"], tools=())
    assert served_prompt(tokenizer, chat, openai_messages(example, PYTHON.syntax), None) == chat.prompt(example)


def test_a_whole_conversation_ends_as_training_has_it(tokenizer: Any, tiny_model_dir: Path) -> None:
    tokenizer.chat_template = load_tokenizer(tiny_model_dir).chat_template
    chat, example = Chat(tokenizer), CONVERSATIONS["calls and a result"]
    answer = openai_answer(CALLED, PYTHON.syntax)
    trained = (*chat.prompt(example), *chat.response(CALLED))
    tokenizer.chat_template = served_template(chat.template, PYTHON)
    ids = tokenizer.apply_chat_template(
        [*openai_messages(example, PYTHON.syntax), answer], tools=openai_tools(TOOLS), tokenize=True, return_dict=False
    )
    assert tuple(ids)[: len(trained)] == trained


@pytest.mark.parametrize("served", SERVED)
@pytest.mark.parametrize("family", ["qwen2_5", "llama3_1", "gemma"])
def test_it_can_be_tried_on_plain_jinja(tokenizer: Any, family: str, served: Any) -> None:
    """vLLM 0.32 tries a template so before it serves: on a Jinja that has nothing of transformers'."""
    tokenizer.chat_template = FAMILIES[family]
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    turns = [{"role": role, "content": "t"} for role in ("system", "user", "system", "user")]
    template = plain.from_string(served_template(Chat(tokenizer, "system", served).template, SERVED[served]))
    assert "Functions:\n[]\n\nt\n\nt" in template.render(messages=turns, add_generation_prompt=False, bos_token="")
    own = plain.from_string(served_template(Chat(tokenizer, "auto", served).template, SERVED[served]))
    assert own.render(messages=turns, add_generation_prompt=False, bos_token="")


def test_arguments_as_json_text_are_refused(tokenizer: Any, tiny_model_dir: Path) -> None:
    tokenizer.chat_template = load_tokenizer(tiny_model_dir).chat_template
    asked = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [asked]}]
    with pytest.raises(TemplateError, match="must be a mapping"):
        served_prompt(tokenizer, Chat(tokenizer), messages, None)


def test_a_date_in_a_form_of_the_templates_own_making_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = FAMILIES["granite"].replace("strftime_now('%B %d, %Y')", "strftime_now('%B' + ' %Y')")
    with pytest.raises(ChatTemplateError, match="asks for the date in a form that it makes itself"):
        served_template(Chat(tokenizer).template, PYTHON)

"""What an export brings for servers. The macro makes prompts in `engines/test_served_template.py`."""

from __future__ import annotations

import json
import re
import sys
from types import ModuleType
from typing import Any

import pytest

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.served import LABELS, OWN_PARSER, SERVED, ServedSyntax, jinja_text
from itool_pipeline.calls.types import Call


class Manager:
    """vLLM's list of parsers."""

    def __init__(self) -> None:
        self.registered: dict[str, Any] = {}

    def register_module(self, name: str, module: Any) -> None:
        self.registered[name] = module


def put_modules(monkeypatch: pytest.MonkeyPatch, names: dict[str, dict[str, Any]]) -> None:
    """Modules of these names, with this content, for imports to find."""
    for name, content in {"vllm": {}, "vllm.tool_parsers": {}, **names}.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parser that the plugin registers, with `re` for `regex`, and of vLLM the two names that it takes."""
    manager, base, regex = Manager(), type("PythonicToolParser", (), {}), __import__("re")
    names: dict[str, dict[str, Any]] = {
        "vllm.tool_parsers.abstract_tool_parser": {"ToolParserManager": manager},
        "vllm.tool_parsers.pythonic_tool_parser": {"PythonicToolParser": base},
    }
    put_modules(monkeypatch, names)
    monkeypatch.setitem(sys.modules, "regex", regex)
    exec(compile(SERVED["python"].plugin, "tool_parser.py", "exec"), {})
    return manager.registered[OWN_PARSER]


@pytest.mark.parametrize(
    "said", ["[f(a=1)]", '[a.b.c(x="y", z=[1])]', "[f(), g.h(a=1)]", "[ f (1) ]\n", "[f(\na=1)]", "\n\n[f(a=1)]"]
)
def test_the_own_parser_takes_calls_whatever_their_names(parser: Any, said: str) -> None:
    assert parser.TOOL_CALL_REGEX.match(said)


@pytest.mark.parametrize(
    "said", ["No function can.", "[1] says so", "[f(a=1)", "see [f(a=1)]", "[f(a=1)] and more", ""]
)
def test_the_own_parser_leaves_words_alone(parser: Any, said: str) -> None:
    assert not parser.TOOL_CALL_REGEX.match(said)


def test_the_own_parser_of_llamas_json_starts_without_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of vLLM there are the two names that the plugin takes; its parser asks whether the vocabulary has the tag."""

    class Llama3JsonToolParser:
        bot_token = "<|python_tag|>"

        def __init__(self, words: dict[str, int]) -> None:
            self.words = words

        @property
        def vocab(self) -> dict[str, int]:
            return self.words

    manager = Manager()
    put_modules(
        monkeypatch,
        {
            "vllm.tool_parsers.abstract_tool_parser": {"ToolParserManager": manager},
            "vllm.tool_parsers.llama_tool_parser": {"Llama3JsonToolParser": Llama3JsonToolParser},
        },
    )
    exec(compile(SERVED["llama3_json"].plugin, "tool_parser.py", "exec"), {})
    parser = manager.registered[OWN_PARSER]
    assert parser({"a": 7}).vocab == {"<|python_tag|>": -1, "a": 7}
    assert parser({"<|python_tag|>": 7}).vocab == {"<|python_tag|>": 7}


def test_what_brings_a_plugin_says_why() -> None:
    assert {name for name, served in SERVED.items() if served.plugin} == {"python", "llama3_json"}
    assert all(bool(served.plugin) == bool(served.lacks) for served in SERVED.values())


def test_text_as_a_literal_of_jinja() -> None:
    from jinja2 import Environment

    text = 'a "b" \\ \n\t\x07 «é» \u241f \U0001f333 \''
    assert Environment().from_string(f"{{{{ {jinja_text(text)} }}}}").render() == text


@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED)
def test_literals_are_what_llama_cpp_reads_too(served: ServedSyntax) -> None:
    """Its Jinja ends where a literal has another escape, and its strings at a NUL."""
    for jinja in (LABELS, served.macro, jinja_text("".join(map(chr, range(1, 0x500))))):
        assert set(re.findall(r"\\(.)", jinja)) <= {"\\", '"', "'", "n", "r", "t"}
        assert "\0" not in jinja


@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED)
def test_the_macro_writes_calls_as_the_syntax_does(served: ServedSyntax) -> None:
    """With JSON as transformers' filter writes it."""
    from jinja2 import Environment

    marks = "".join(served.syntax.tokens)
    calls = [Call("f", {"a": marks, "b": [1, None, {"ü": marks}]}), Call("g.h", {}), Call("f", {"c": "; \n"})]
    environment = Environment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    written = environment.from_string(f"{LABELS}{served.macro}{{{{- itool_calls(calls) -}}}}")
    given = [{"name": call.name, "arguments": call.arguments} for call in calls]
    assert written.render(calls=given) == served.syntax.render_calls(calls)


def test_a_label_is_the_call_as_it_is_rendered() -> None:
    from jinja2 import Environment

    text = "".join(map(chr, range(1, 0x500)))
    arguments = {"a": text, "b": [r"\n", None, True, 1, 2.0, {"k\n": '"'}], "c": {}}
    label = Environment().from_string(LABELS + "{{- itool_label(call) -}}")
    assert f"[{label.render(call={'name': 'f.g', 'arguments': arguments})}]" == render_calls([Call("f.g", arguments)])

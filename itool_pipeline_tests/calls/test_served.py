"""What an export brings for servers. The macro is tested where it makes prompts: `engines/test_served_template.py`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from itool_pipeline.calls.served import OWN_PARSER, SERVED, jinja_text


class Manager:
    """vLLM's list of parsers."""

    def __init__(self) -> None:
        self.registered: dict[str, Any] = {}

    def register_module(self, name: str, module: Any) -> None:
        self.registered[name] = module


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parser that the plugin registers, with `re` for `regex`, and of vLLM the two names that it takes."""
    manager, base, regex = Manager(), type("PythonicToolParser", (), {}), __import__("re")
    names: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.tool_parsers": {},
        "vllm.tool_parsers.abstract_tool_parser": {"ToolParserManager": manager},
        "vllm.tool_parsers.pythonic_tool_parser": {"PythonicToolParser": base},
    }
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "regex", regex)
    exec(compile(SERVED["python"].plugin, "tool_parser.py", "exec"), {})
    return manager.registered[OWN_PARSER]


@pytest.mark.parametrize("said", ["[f(a=1)]", '[a.b.c(x="y", z=[1])]', "[f(), g.h(a=1)]", "[ f (1) ]\n", "[f(\na=1)]"])
def test_the_own_parser_takes_calls_whatever_their_names(parser: Any, said: str) -> None:
    assert parser.TOOL_CALL_REGEX.match(said)


@pytest.mark.parametrize(
    "said", ["No function can.", "[1] says so", "[f(a=1)", "see [f(a=1)]", "[f(a=1)] and more", ""]
)
def test_the_own_parser_leaves_words_alone(parser: Any, said: str) -> None:
    assert not parser.TOOL_CALL_REGEX.match(said)


def test_text_as_a_literal_of_jinja() -> None:
    from jinja2 import Environment

    text = 'a "b" \\ \n\t\x07 «é» \u241f \U0001f333 \''
    assert Environment().from_string(f"{{{{ {jinja_text(text)} }}}}").render() == text
    assert jinja_text(text).isascii()

"""Syntaxes by name, and what an assistant says in data, written anew in another syntax."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.calls.hermes import HERMES_CALLS
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.syntaxes import SYNTAXES, calls_anything, in_syntax, rendered_calls, syntax_named
from itool_pipeline.calls.types import Call
from itool_pipeline.config import PromptConfig

ODD = "Safe For Work (SFW) Image API"


def test_the_config_names_every_syntax() -> None:
    named = get_args(PromptConfig.model_fields["calls"].annotation)
    assert {*named} == {*SYNTAXES, "auto"}
    assert [syntax_named(name).name for name in SYNTAXES] == list(SYNTAXES)


@pytest.mark.parametrize("syntax", [HERMES_CALLS, LLAMA3_JSON_CALLS], ids=lambda s: s.name)
def test_calls_of_data_are_written_anew(syntax: object) -> None:
    assert syntax in (HERMES_CALLS, LLAMA3_JSON_CALLS)
    chosen = HERMES_CALLS if syntax is HERMES_CALLS else LLAMA3_JSON_CALLS
    calls = (Call(ODD, {"from": [1, True, None]}), Call("a.b", {"x": 'quoted "text", (and) [more]'}))
    text = render_calls(calls)
    assert in_syntax(text, PYTHON_CALLS, [ODD]) == text
    assert chosen.read_response(in_syntax(text, chosen, [ODD])) == calls


@pytest.mark.parametrize(
    "words", ["", "No.", "[f(a=1)", "[f(a = 1)]", "[f(a='1')]", "[see above]", "[]", "So: [f(a=1)]", "[f(a=1)]\n"]
)
def test_what_was_not_rendered_is_words(words: str) -> None:
    assert rendered_calls(words) == ()
    assert in_syntax(words, HERMES_CALLS) == words


@given(st.text(max_size=30) | st.text('[]f(a=1), "', max_size=20))
def test_words_stay_as_they_are_unless_they_are_calls(text: str) -> None:
    written = in_syntax(text, HERMES_CALLS)
    assert written == text or HERMES_CALLS.read_response(written) == rendered_calls(text) != ()


@pytest.mark.parametrize("text", ["[f(1)]", '[f(a=b"x")]', "[f(a=1j)]", "[f(a={1: 2})]"])
def test_what_json_cannot_say_is_refused(text: str) -> None:
    (call,) = PYTHON_CALLS.read_response(text)
    with pytest.raises(TypeError):
        in_syntax(render_calls([call]), LLAMA3_JSON_CALLS)


def test_a_turn_with_calls_is_told_in_each_syntax() -> None:
    calls = [Call("f", {"a": 1})]
    for syntax in SYNTAXES.values():
        assert calls_anything(syntax.render_calls(calls))
    for words in ("", "No.", '{"a": 1}', "<tool_call> is a tag", "[1]"):
        assert not calls_anything(words)

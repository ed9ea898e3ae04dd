"""Examples in the syntax of the experiment: what is written anew, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from itool_pipeline.calls.hermes import HERMES_CALLS
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.steps.writing import NotWritable, asked, in_its_syntax

CALL = Call("f", {"a": (1, 2), "b": "x"})


def example(response: str, *, gold: bool = True, said: str = "[f(a=1)]") -> Example:
    messages = (Message("user", "[f(a=1)]"), Message("assistant", said), Message("tool", "[f(a=1)]"))
    accepted: dict[str, tuple[Any, ...]] = {name: (value,) for name, value in CALL.arguments.items()}
    tools = ({"name": "f", "parameters": {}},)
    return Example("e", "own", "own", messages, tools, response, (GoldCall("f", accepted),) if gold else (), "e")


@pytest.mark.parametrize("syntax", [HERMES_CALLS, LLAMA3_JSON_CALLS], ids=lambda s: s.name)
def test_what_the_assistant_says_is_written_anew_and_nothing_else(syntax: Any) -> None:
    given = example(render_calls([CALL]))
    written = in_its_syntax(given, syntax)
    assert syntax.read_response(written.response) == (Call("f", {"a": [1, 2], "b": "x"}),)
    assert [m.content for m in written.messages] == ["[f(a=1)]", syntax.render_calls([Call("f", {"a": 1})]), "[f(a=1)]"]
    assert replace(written, messages=given.messages, response=given.response) == given
    words = example("No tool fits.", gold=False, said="Well.")
    assert in_its_syntax(words, syntax) == words


def test_pythons_syntax_is_what_data_hold() -> None:
    given = example("[f( a=1 )]")
    assert in_its_syntax(given, PYTHON_CALLS) is given


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            example(render_calls([Call("f", {"a": {1: 2}})])),
            "a call cannot be written in hermes: int is no key in JSON",
        ),
        (example(render_calls([CALL]), said=render_calls([Call("f", {"a": 1j})])), "complex has no JSON"),
        (example(render_calls([CALL]), said="[f(1)]"), "an argument has no name"),
        (example("[f( a=1 )]"), "the answer reads as something else in hermes"),
        (example("Write <tool_call> so.", gold=False), "the answer reads as something else in hermes"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_reason(given: Example, reason: str) -> None:
    with pytest.raises(NotWritable, match=reason):
        in_its_syntax(given, HERMES_CALLS)
    assert asked(given, HERMES_CALLS) == given

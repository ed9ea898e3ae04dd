"""What a chat template can show, probed on one conversation in which there is all that it may have to show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import in_syntax
from itool_pipeline.calls.tool_schema import Tool, parameter_schemas
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Example, Message
from itool_pipeline.engines.control_tokens import BREAK
from itool_pipeline.engines.template_rendering import ChatTemplateError, Rendering, require_whole

_PROBE: Tool = {
    "name": "probe_of_the_template",
    "description": "Shows whether the template looks at tools.",
    "parameters": {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "description": "The number asked for."},
            "where": {"type": "object", "properties": {"page_of_it": {"type": "integer"}}},
        },
        "required": ["n"],
    },
}
LAST = "And which text?"
"""The probe's last words before the answer."""


PROBED = Example(
    id="probe_of_the_template",
    source="",
    category="",
    messages=(
        Message("system", "Be brief today."),
        Message("user", "Which <number> is it & where?"),
        Message("assistant", "[probe_of_the_template(n=1)]"),
        Message("tool", '{"number": "seven"}'),
        Message("assistant", "It is seven."),
        Message("user", f"{LAST} "),
    ),
    tools=(_PROBE,),
    response='[probe_of_the_template(n=1, text="one & two")]',
    gold=(),
    group="",
)
"""A whole conversation: a system text, several turns, a tool, its result."""


def probed(syntax: CallSyntax) -> Example:
    """PROBED with its calls in the syntax."""
    messages = tuple(Message(m.role, in_syntax(m.content, syntax)) for m in PROBED.messages)
    return replace(PROBED, messages=messages, response=in_syntax(PROBED.response, syntax))


def probed_bridge(rendering: Rendering) -> str:
    """What stands between the prompt that the template makes and the response.

    A conversation that is cut out needs none. Raises ChatTemplateError where the conversation is not shown whole, or
    calls are not written as the syntax does.
    """
    messages, tools = rendering.asked(probed(rendering.syntax))
    before, _ = rendering.around(messages, tools)
    bridge, prompt = "", before
    if not rendering.handling.answered:
        prompt = rendering.text(messages, tools, answered=False)
        ending, opening = (text.rpartition(LAST)[2] for text in (before, prompt))
        if not ending.startswith(opening):
            raise ChatTemplateError(f"it begins an answer by {opening!r} and shows one after {ending!r}")
        bridge = ending.removeprefix(opening)
    require_whole(prompt, messages, (text for tool in tools for text in _tool_texts(tool)))
    if rendering.handling.calls and not _writes(rendering, probed(rendering.syntax).response):
        raise ChatTemplateError(f"the chat template does not write calls as {rendering.syntax.name} does")
    return bridge


def writes_several(rendering: Rendering) -> bool:
    """Whether the template writes several calls of one turn, as the syntax does; Llama's refuse to."""
    response = rendering.syntax.render_calls([Call(str(_PROBE["name"]), {"n": n}) for n in (1, 2)])
    try:
        return _writes(rendering, response)
    except ChatTemplateError:
        return False


def _writes(rendering: Rendering, response: str) -> bool:
    """Whether the template writes an answer as it is, but for white space. Raises ChatTemplateError."""
    messages, tools = rendering.asked(probed(rendering.syntax))
    written = rendering.text([*messages, Message("assistant", response)], tools, answered=True)
    return "".join(response.split()) in "".join(written.replace(BREAK, "").split())


def _tool_texts(tool: Tool) -> Iterator[str]:
    """What a template that shows the tool shows of it: the words, and the names of parameters at every depth."""
    yield str(tool["name"])
    yield str(tool["description"])
    yield from _parameter_texts(parameter_schemas(tool))


def _parameter_texts(schemas: Any) -> Iterator[str]:
    for name, schema in schemas.items():
        yield name
        yield from (schema[key] for key in ("description",) if key in schema)
        yield from _parameter_texts(schema.get("properties", {}))

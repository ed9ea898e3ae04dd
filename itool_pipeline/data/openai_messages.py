"""An example as clients of chat models hand it over: OpenAI's messages and tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import Tool, json_schema, tool_names
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.types import Example, Message

ChatMessages = list[dict[str, Any]]
"""Each with `role` and `content`; an assistant's may have `tool_calls`, whose arguments are mappings."""


def openai_tools(tools: Sequence[Tool], *, types: bool = False) -> list[dict[str, Any]]:
    """The tools as functions. `types`: with JSON Schema's names for the types that BFCL and ToolACE name otherwise."""
    return [{"type": "function", "function": dict(json_schema(tool) if types else tool)} for tool in tools]


def openai_messages(example: Example, syntax: CallSyntax) -> ChatMessages:
    """The context, with earlier calls as `tool_calls` where objects say exactly what the text says.

    A text that holds calls and cannot be had back out of objects (a positional argument, an expression, a tuple) stays
    text: a chat template shows it as it is.
    """
    return [_shown(message, syntax, tool_names(example.tools)) for message in example.messages]


def openai_answer(text: str, syntax: CallSyntax, names: Sequence[str] = ()) -> dict[str, Any]:
    """An assistant's message that says the text, with `tool_calls` where objects say exactly that."""
    return _shown(Message("assistant", text), syntax, names)


def openai_calls(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The calls as `tool_calls`, with ids by their place."""
    return [
        {
            "id": f"call_{place}",
            "type": "function",
            "function": {"name": call.name, "arguments": dict(call.arguments)},
        }
        for place, call in enumerate(calls)
    ]


def _shown(message: Message, syntax: CallSyntax, names: Sequence[str]) -> dict[str, Any]:
    calls = _exact_calls(message.content, syntax, names) if message.role == "assistant" else ()
    if calls:
        return {"role": "assistant", "content": "", "tool_calls": openai_calls(calls)}
    return {"role": message.role, "content": message.content}


def _exact_calls(text: str, syntax: CallSyntax, names: Sequence[str]) -> tuple[Call, ...]:
    """The calls that the text is, if JSON holds them and the syntax writes them back as they stand; else none."""
    try:
        calls = syntax.read_response(text, names, quirks=True)
        again = [Call(call.name, json.loads(json.dumps(call.arguments, allow_nan=False))) for call in calls]
        exact = syntax.render_calls(again) == text and not any("*" in name for call in calls for name in call.arguments)
    except (ToolCallSyntaxError, TypeError, ValueError):
        return ()
    return tuple(again) if exact else ()

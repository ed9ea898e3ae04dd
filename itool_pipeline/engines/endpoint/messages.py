"""What a served model is shown, and what it says, between our examples and OpenAI's chat completions.

With `functions` it is shown the messages and, apart from them, the tools as OpenAI's functions; its `tool_calls` become
a list of Python calls, which the judges read. That is what BFCL calls a model's FC mode. Names are changed as BFCL's
own handlers change them: only letters, digits, `_` and `-` may stand in a function's name, so a dot becomes `_`, and in
the answer a dot again.

With `prompt` it is shown our own prompt as text, and its text is its answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.tool_schema import Tool, json_schema, tool_names
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.core.prompts import response_messages
from itool_pipeline.core.types import Example, Message

CHARACTERS_PER_TOKEN = 4
"""Of English text and JSON, about, in most tokenizers: by it prompts are measured where no tokenizer is known."""

NO_CALLS = "the tool calls cannot be read: "
"""How an answer begins whose `tool_calls` hold no calls. No judge reads a call out of it."""

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class FunctionNames:
    """The names of an example's tools as OpenAI takes them: our name → theirs, each its own."""

    theirs: Mapping[str, str]

    @staticmethod
    def of(tools: Sequence[Tool]) -> FunctionNames:
        theirs: dict[str, str] = {}
        for name in dict.fromkeys(tool_names(tools)):
            short = plain = _NOT_IN_A_NAME.sub("_", name)[:_LONGEST_NAME]
            number = 1
            while short in theirs.values():
                number += 1
                short = f"{plain[: _LONGEST_NAME - len(str(number)) - 1]}_{number}"
            theirs[name] = short
        return FunctionNames(theirs)

    def their(self, name: str) -> str:
        return self.theirs.get(name) or _NOT_IN_A_NAME.sub("_", name)[:_LONGEST_NAME]

    def ours(self, name: str) -> str:
        """A name that is none of them stays as it is, and is wrong."""
        return next((own for own, their in self.theirs.items() if their == name), name)


def functions_request(example: Example) -> dict[str, Any]:
    """`messages` and `tools` of a request; `tools` is left out where there are none."""
    names = FunctionNames.of(example.tools)
    tools = [{"type": "function", "function": _function(tool, names)} for tool in example.tools]
    return {"messages": _chat(example, names), **({"tools": tools} if tools else {})}


def prompt_request(example: Example) -> dict[str, Any]:
    """`messages` with our instructions and list of tools. Results of calls are the user's words, as they have no id."""
    messages: list[dict[str, Any]] = []
    for message in response_messages(example):
        role = "user" if message.role == "tool" else message.role
        if messages and role == "user" and messages[-1]["role"] == "user":
            messages[-1]["content"] += f"\n{message.content}"
        else:
            messages.append({"role": role, "content": message.content})
    return {"messages": messages}


def answer_text(message: Mapping[str, Any], example: Example) -> str:
    """The message that came back as a text that the judges read: its calls, or else its words."""
    calls = message.get("tool_calls")
    if not calls:
        content = message.get("content")
        return content if isinstance(content, str) else ""
    names = FunctionNames.of(example.tools)
    try:
        return PYTHON_CALLS.render_calls(_call(call, names) for call in calls)
    except (ValueError, TypeError, KeyError, RecursionError):
        return NO_CALLS + json.dumps(calls, ensure_ascii=False)


def estimated_tokens(example: Example) -> int:
    """About how many tokens the example's prompt has."""
    characters = sum(len(message.content) for message in response_messages(example))
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def _function(tool: Tool, names: FunctionNames) -> dict[str, Any]:
    told = json_schema(tool)
    parameters = {"properties": {}, **told["parameters"], "type": "object"}
    return {
        "name": names.their(str(tool["name"])),
        "description": str(tool.get("description") or ""),
        "parameters": parameters,
    }


def _chat(example: Example, names: FunctionNames) -> list[dict[str, Any]]:
    system = "\n\n".join(m.content for m in example.messages if m.role == "system")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    waiting: list[dict[str, Any]] = []  # results that are to come
    for message in example.messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            _add_result(messages, waiting, message.content)
            continue
        waiting = []
        calls = _calls_in(message, example)
        if calls:
            made = [_tool_call(call, f"call_{len(messages)}_{i}", names) for i, call in enumerate(calls)]
            messages.append({"role": "assistant", "content": None, "tool_calls": made})
            # Each call needs a result, also one whose result the conversation does not have.
            waiting = [{"role": "tool", "tool_call_id": call["id"], "content": ""} for call in made]
            messages += waiting
        else:
            messages.append({"role": message.role, "content": message.content})
    return messages


def _add_result(messages: list[dict[str, Any]], waiting: list[dict[str, Any]], content: str) -> None:
    """The result of the first call that has none. What is more than the calls goes to the last; without any, it is the
    user's words.
    """
    free = next((result for result in waiting if not result["content"]), None)
    if free is not None:
        free["content"] = content
    elif waiting:
        waiting[-1]["content"] += f"\n{content}"
    else:
        messages.append({"role": "user", "content": content})


def _calls_in(message: Message, example: Example) -> tuple[Call, ...]:
    if message.role != "assistant" or not PYTHON_CALLS.has_begun_call(message.content):
        return ()
    try:
        return PYTHON_CALLS.read_response(message.content, tool_names(example.tools), quirks=True)
    except ToolCallSyntaxError:
        return ()


def _tool_call(call: Call, identity: str, names: FunctionNames) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False, default=str)
    return {"id": identity, "type": "function", "function": {"name": names.their(call.name), "arguments": arguments}}


def _call(call: Any, names: FunctionNames) -> Call:
    """One of `tool_calls`. Raises ValueError, TypeError or KeyError for what is none."""
    function = call["function"]
    arguments = json.loads(function["arguments"] or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    return Call(names.ours(str(function["name"])), arguments)

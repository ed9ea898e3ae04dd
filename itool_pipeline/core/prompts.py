"""The two prompts: the one that asks for a response, and the one that asks for a grade (Eq. 7).

The grade prompt asks about the five things that the paper's evaluation names: function names, number of
parameters, parameter names, parameter values and types, and meaning. The candidate comes last, so that all that
stands before it is shared by every state of a tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.types import Example, Message

CANDIDATE = "\u241fcandidate\u241f"
"""Stands where the candidate goes; never part of a real question."""

OPTIONS = ("A", "B", "C", "D")
"""The options of self-evaluation, best first."""

_RESPOND = """\
You can call the functions listed below. When they can serve the request, reply with nothing but the calls, {form}. \
Strings are quoted; parameters that are not needed are left out. When no function serves the request, or a required \
value is missing from it, say so in plain words and call nothing.
Functions:
"""

_RESPOND_IN_OUR_FORMAT = """\
You can call functions. When they can serve the request, reply with nothing but the calls, {form}. Use this form and \
no other, whatever else you are told about the form of calls. Strings are quoted; parameters that are not needed are \
left out. When no function serves the request, or a required value is missing from it, say so in plain words and call \
nothing."""

_GRADE = """\
You grade how an assistant uses functions. You see the functions, a request, and the beginning of the assistant's \
reply, which may stop in the middle. Judge only what is there. Check five things: are the function names right; is \
the number of parameters right; are the parameter names right; do the values and their types agree with the \
request; does the reply mean what the request asks for?
A: all right so far
B: nearly right, a detail is off
C: a function, parameter or value is wrong
D: useless or not a valid reply
Functions:
"""


def tool_list_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tool list as prompts show it: compact JSON."""
    return json.dumps(list(tools), ensure_ascii=False, separators=(",", ":"))


def instructions(*, list_tools: bool, syntax: CallSyntax = PYTHON_CALLS) -> str:
    """Our instructions for calls in this syntax, to which `list_tools` adds the list as `tool_list_text` has it."""
    return (_RESPOND if list_tools else _RESPOND_IN_OUR_FORMAT).replace("{form}", syntax.form)


def response_messages(
    example: Example, *, list_tools: bool = True, syntax: CallSyntax = PYTHON_CALLS
) -> tuple[Message, ...]:
    """The context to be answered: our instructions with the tool list, then the example's own turns.

    list_tools  False where the model's chat template shows the tools itself
    syntax      how calls are to be written
    """
    own = [m.content for m in example.messages if m.role == "system"]
    told = instructions(list_tools=list_tools, syntax=syntax)
    ours = told + (tool_list_text(example.tools) if list_tools else "")
    system = "\n\n".join([ours, *own])
    return (Message("system", system), *(m for m in example.messages if m.role != "system"))


def own_messages(example: Example) -> tuple[Message, ...]:
    """The example's own turns and nothing of ours: for a template that tells the model how to call."""
    own = [m.content for m in example.messages if m.role == "system"]
    system = (Message("system", "\n\n".join(own)),) if own else ()
    return (*system, *(m for m in example.messages if m.role != "system"))


def grade_messages(example: Example) -> tuple[Message, ...]:
    """The evaluation prompt of Eq. 7, with CANDIDATE where the response so far goes; the answer is one of OPTIONS."""
    turns = "\n".join(f"{m.role}: {m.content}" for m in example.messages)
    user = f"Request:\n{turns}\nWhich of A, B, C, D?\nReply so far: {CANDIDATE}"
    return (Message("system", _GRADE + tool_list_text(example.tools)), Message("user", user))

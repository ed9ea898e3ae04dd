"""The syntaxes that there are, by name; and calls from Python's, in which data hold them, into another."""

from __future__ import annotations

from collections.abc import Collection

from itool_pipeline.calls.hermes import HERMES_CALLS
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.reading import looks_like_call, parse_calls
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import POSITIONAL
from itool_pipeline.calls.types import Call, ToolCallSyntaxError

SYNTAXES: dict[str, CallSyntax] = {s.name: s for s in (PYTHON_CALLS, HERMES_CALLS, LLAMA3_JSON_CALLS)}


def syntax_named(name: str) -> CallSyntax:
    """The syntax of this name. Raises KeyError for another."""
    return SYNTAXES[name]


def in_syntax(text: str, syntax: CallSyntax, names: Collection[str] = ()) -> str:
    """What an assistant says in a data set, in the syntax: its calls rendered anew, its words as they are.

    names   the functions that may be called, as for `parse_calls`

    Calls are what reads back as `render_calls` writes it. Raises TypeError for a value, or an argument without a name,
    that the syntax cannot write.
    """
    if syntax is PYTHON_CALLS or not text.startswith("["):
        return text
    calls = rendered_calls(text, names)
    nameless = any(key == "**" or POSITIONAL.fullmatch(key) for call in calls for key in call.arguments)
    if nameless and not syntax.has_positional:
        raise TypeError("an argument has no name")
    return syntax.render_calls(calls) if calls else text


def rendered_calls(text: str, names: Collection[str] = ()) -> tuple[Call, ...]:
    """The calls that `render_calls` wrote; none of any other text."""
    try:
        calls = parse_calls(text, names)
        return calls if render_calls(calls) == text else ()
    except (ToolCallSyntaxError, TypeError):
        return ()


def calls_anything(text: str) -> bool:
    """Whether an earlier turn of an assistant makes calls, in whichever syntax."""
    if looks_like_call(text):
        return True
    for syntax in (HERMES_CALLS, LLAMA3_JSON_CALLS):
        try:
            if syntax.read_response(text):
                return True
        except ToolCallSyntaxError:
            continue
    return False

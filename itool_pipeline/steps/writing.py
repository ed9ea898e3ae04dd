"""Examples with their calls in the syntax of the experiment. Readers of data hold them in Python's."""

from __future__ import annotations

from dataclasses import replace

from itool_pipeline.calls.comparing import is_equal
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import in_syntax, rendered_calls
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import ToolCallSyntaxError
from itool_pipeline.core.types import Example, Message


class NotWritable(ValueError):
    """A call of the example cannot be written in the syntax, or its answer would read as something else."""


def in_its_syntax(example: Example, syntax: CallSyntax) -> Example:
    """The example with its earlier turns and its answer in the syntax.

    Raises NotWritable for a value that the syntax does not have, and where the answer reads as something else.
    """
    if syntax is PYTHON_CALLS:
        return example
    names = tool_names(example.tools)
    try:
        messages = tuple(
            Message(m.role, in_syntax(m.content, syntax, names)) if m.role == "assistant" else m
            for m in example.messages
        )
        response = in_syntax(example.response, syntax, names) if example.gold else example.response
    except TypeError as error:
        raise NotWritable(f"a call cannot be written in {syntax.name}: {error}") from None
    if response and not _reads_alike(example, response, syntax):
        raise NotWritable(f"the answer reads as something else in {syntax.name}")
    return replace(example, messages=messages, response=response)


def asked(example: Example, syntax: CallSyntax) -> Example:
    """The same for a case of a benchmark, of which nothing is learnt: one that cannot be written stays as it is."""
    try:
        return in_its_syntax(example, syntax)
    except NotWritable:
        return example


def _reads_alike(example: Example, response: str, syntax: CallSyntax) -> bool:
    """Whether the answer in the syntax makes the calls that it makes in Python's, or none where it is words."""
    if not example.gold:
        return syntax.is_plain_text(response)
    expected = rendered_calls(example.response, tool_names(example.tools))
    try:
        found = syntax.read_response(response)
    except ToolCallSyntaxError:
        return False
    return (
        bool(expected)
        and [call.name for call in found] == [call.name for call in expected]
        and all(is_equal(call.arguments, wanted.arguments) for call, wanted in zip(found, expected, strict=True))
    )

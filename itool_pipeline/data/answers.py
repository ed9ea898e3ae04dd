"""One assistant turn of a data set as an example: its calls as text, and as what is expected of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.schema_fit import call_contradictions, loose_values
from itool_pipeline.calls.tool_schema import POSITIONAL, find_tool
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.example_codec import decode_example, encode_example
from itool_pipeline.data.rows import RowError, expect_that
from itool_pipeline.data.tools import Tools
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.verdicts import judge_response


def answered_example(
    identity: str,
    source: str,
    conversation: str,
    context: tuple[Message, ...],
    tools: Tools,
    answer: str | Sequence[Call],
) -> Example:
    """The example in which `context` is answered by words or by calls.

    The category is `single_call`, `several_calls` or `no_call`, by the answer; the group is the conversation.

    Raises RowError when there is nothing to answer, when a call is of no tool or contradicts its tool's description, or
    when the answer as we write it would itself be judged wrong: the model would be trained on what its reward punishes.
    """
    calls = () if isinstance(answer, str) else tuple(answer)
    expect_that(any(message.role == "user" for message in context), "no user turn before the answer")
    expect_that(bool(answer), "the answer is empty")
    names = [str(tool["name"]) for tool in tools]
    unknown = sorted({call.name for call in calls} - set(names))
    expect_that(not unknown, f"calls what is not among the tools: {unknown}")
    twice = sorted({call.name for call in calls if names.count(call.name) > 1})
    expect_that(not twice, f"calls a name that more than one tool has: {twice}")
    unwritten = sorted({name for call in calls for name in call.arguments if POSITIONAL.fullmatch(name)})
    expect_that(not unwritten, f"gives an argument whose name would be read as a position: {unwritten}")
    for call in calls:
        for contradiction in call_contradictions(call, tools[names.index(call.name)]):
            raise RowError(contradiction)
    example = Example(
        id=identity,
        source=source,
        category=("no_call", "single_call", "several_calls")[min(2, len(calls))],
        messages=context,
        tools=tools,
        response=answer if isinstance(answer, str) else render_calls(calls),
        gold=tuple(GoldCall(call.name, {name: (value,) for name, value in call.arguments.items()}) for call in calls),
        group=conversation,
    )
    stored = _as_stored(example)
    verdict = judge_response(GOLD_RULES, stored, stored.response)
    expect_that(verdict.correct, f"the answer does not read back as what it says: {verdict.error}")
    return stored


def loose_answers(example: Example) -> Iterator[str]:
    """What in the gold calls is at odds with the tools' schemas: see `loose_values`."""
    for gold in example.gold:
        call = Call(gold.name, {name: value for name, (value,) in gold.arguments.items()})
        yield from loose_values(call, find_tool(example.tools, gold.name) or {})


def _as_stored(example: Example) -> Example:
    """The example as it is after it was written to a file and read back: what training and reward will see.

    Python has values that JSON has not, and JSON spells halves of characters that no file can hold.
    """
    try:
        row = encode_example(example)
        "".join(row.values()).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(f"holds half a character: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(f"holds a value that JSON does not know: {error}") from error
    return decode_example(row)

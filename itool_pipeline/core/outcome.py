"""Outcome correctness O of a response (Eq. 6): the checker's verdict at its end, agreement with the gold before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.reading import WRAPPING, finished_calls, looks_like_call
from itool_pipeline.calls.tool_schema import tool_names
from itool_pipeline.calls.types import BegunCall, Call, GoldCall, ToolCallSyntaxError
from itool_pipeline.core.call_match import (
    Fault,
    Mismatch,
    argument_agrees,
    decode,
    description,
    is_benchmark,
    mismatch,
    needed,
    pair_in_any_order,
    readable,
    require_python,
)
from itool_pipeline.core.types import Example, Expectation

_SENTENCES = {
    Fault.NO_DESCRIPTION: "the expected function {expected} is not among the tools",
    Fault.FUNCTION: "calls {got} where {expected} is expected",
    Fault.MISSING_REQUIRED: "lacks the required parameter {parameter}",
    Fault.UNEXPECTED: "has the unexpected parameter {parameter}",
    Fault.VALUE: "has {got} for {parameter}; accepted: {expected}",
    Fault.MISSING: "lacks the parameter {parameter}, which may not be left out",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a complete response. `error` is one sentence, empty when correct."""

    correct: bool
    error: str = ""


def check(example: Example, response: str) -> Verdict:
    """Whether a complete response is right: for BFCL's Python categories the official checkers' decision.

    - The response is decoded as BFCL's prompting decoder does. With gold calls, what does not decode is wrong.
    - `parallel` categories, and all other sources: as many calls as gold calls, paired in any order. `multiple` and
      simple ones: one call, in BFCL's way.
    - Without gold calls it is right exactly if no call is decoded; a relevance category turns this round.
    - Where the official checker would stop with an exception, the response is wrong.

    Sources other than BFCL have one gold value for each parameter, compared by value and not by schema type.
    Raises ValueError for gold calls in Java or JavaScript.
    """
    if not example.gold:
        return _check_without_calls(example, response)
    require_python(example)
    try:
        calls = decode(example, response)
    except ToolCallSyntaxError as error:
        return Verdict(False, f"no list of calls: {error}")
    if len(calls) != expected_count(example):
        return Verdict(False, f"{len(calls)} calls where {len(example.gold)} are expected")
    if in_any_order(example):
        unmatched = pair_in_any_order(example, calls)
        if unmatched is None:
            return Verdict(True)
        return Verdict(False, f"no call agrees with gold call {unmatched} ({example.gold[unmatched].name})")
    found = mismatch(example, calls[0], example.gold[0])
    return Verdict(True) if found is None else Verdict(False, describe(found))


def expects_call(example: Example) -> bool:
    """Whether the right answer calls a tool."""
    return example.expects is not Expectation.NO_CALL


def is_plain_text(text: str) -> bool:
    """Whether a response, which may stop anywhere, says something in words: no call, and no list that holds none."""
    return bool(text.strip()) and not text.lstrip(WRAPPING).startswith("[") and not looks_like_call(text)


def in_any_order(example: Example) -> bool:
    return "parallel" in example.category or not is_benchmark(example)


def expected_count(example: Example) -> int:
    """How many calls are right. The official checker of simple questions wants one, whatever the gold."""
    simple = is_benchmark(example) and "parallel" not in example.category and "multiple" not in example.category
    return 1 if simple else len(example.gold)


def describe(found: Mismatch) -> str:
    """A mismatch as one sentence."""
    return _SENTENCES[found.fault].format(
        parameter=found.parameter, expected=short_json(found.expected), got=short_json(found.got)
    )


def short_json(value: Any, limit: int = 200) -> str:
    """A value as JSON, cut to `limit` characters."""
    text = json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def agreement(example: Example, partial: str) -> float:
    """How much of a response that may stop anywhere agrees with the gold, in [-1, 1]: O before the end.

    (right - wrong) / items. Items are the name of each gold call, each of its parameters that must be given, and each
    optional one that is given. Only what is finished counts: a name when its `(` is there, an argument when the `,`
    or `)` after it is; what a call lacks when it is closed is wrong. Each call is held against the unused gold
    call of its name that it agrees with best; all of a call that finds none is wrong. A syntax error that no
    further text can mend is one wrong item, and a beginning that is no call gives -1.

    When no call is expected: 0 for an empty text, 1 once plain text has begun and -1 once anything else has; a
    relevance category without gold wants a call instead, of whatever tool. Raises ValueError for gold calls in Java or
    JavaScript.
    """
    if not partial.strip(WRAPPING):
        return 0.0
    if not example.gold:
        called = looks_like_call(partial) if expects_call(example) else not is_plain_text(partial)
        return 1.0 if called == expects_call(example) else -1.0
    require_python(example)
    names = tool_names(example.tools)
    if not looks_like_call(partial):
        return 0.0 if _may_be_name(partial, names) else -1.0
    begun, error = finished_calls(partial, names, quirks=not is_benchmark(example))
    right, wrong, optional = _tally(example, begun)
    wrong += error is not None and not error.ended
    items = sum(1 + len(needed(example, gold)) for gold in example.gold) + optional
    return max(-1.0, min(1.0, (right - wrong) / items))


def _check_without_calls(example: Example, response: str) -> Verdict:
    try:
        called = bool(decode(example, response))
    except ToolCallSyntaxError:
        called = False
    if called == expects_call(example):
        return Verdict(True)
    return Verdict(False, "calls a tool where none fits" if called else "calls no tool where one fits")


def _may_be_name(partial: str, names: Sequence[str]) -> bool:
    """Whether a text without brackets can still become `name(`."""
    text = partial.lstrip(WRAPPING)
    return text.replace(".", "_").isidentifier() or any(name.startswith(text) for name in names)


def _tally(example: Example, begun: Sequence[BegunCall]) -> tuple[int, int, int]:
    """(right, wrong, optional parameters given) over all begun calls."""
    unused = list(range(len(example.gold)))
    right = wrong = optional = 0
    for call in begun:
        named = readable(Call(call.name, call.arguments), example)
        scores = {
            index: _score(example, named, example.gold[index], call.closed)
            for index in unused
            if example.gold[index].name == call.name
        }
        if not scores:
            wrong += 1 + len(call.arguments)
            continue
        best = max(scores, key=lambda index: scores[index][0] - scores[index][1])
        unused.remove(best)
        right += scores[best][0]
        wrong += scores[best][1] + len(call.arguments) - len(named.arguments)
        optional += scores[best][2]
    return right, wrong, optional


def _score(example: Example, call: Call, gold: GoldCall, closed: bool) -> tuple[int, int, int]:
    """(right, wrong, optional parameters given) of one call, its name included, against a gold call of its name."""
    tool = description(example, gold)
    must = needed(example, gold)
    agrees = {
        name: tool is not None and argument_agrees(example, tool, gold, name, value)
        for name, value in call.arguments.items()
    }
    right = sum(agrees.values())
    lacking = len(must - set(agrees)) if closed else 0
    optional = sum(name not in must and (ok or name in gold.arguments) for name, ok in agrees.items())
    return 1 + right, len(agrees) - right + lacking, optional

"""Compares calls with gold calls by a source's rules: the first fault of a call, and which calls answer which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example
from itool_pipeline.judges.rules import MatchingRules


class Fault(Enum):
    """What can be wrong with a call, in the order in which it is looked for."""

    NO_DESCRIPTION = auto()  # the gold function is not among the tools
    FUNCTION = auto()
    MISSING_REQUIRED = auto()
    UNEXPECTED = auto()
    VALUE = auto()
    MISSING = auto()


_SENTENCES = {
    Fault.NO_DESCRIPTION: "the expected function {expected} is not among the tools",
    Fault.FUNCTION: "calls {got} where {expected} is expected",
    Fault.MISSING_REQUIRED: "lacks the required parameter {parameter}",
    Fault.UNEXPECTED: "has the unexpected parameter {parameter}",
    Fault.VALUE: "has {got} for {parameter}; accepted: {expected}",
    Fault.MISSING: "lacks the parameter {parameter}, which may not be left out",
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first fault of a call against a gold call. `expected` and `got` are values, or names of functions."""

    fault: Fault
    parameter: str = ""
    expected: Any = None
    got: Any = None


def find_mismatch(rules: MatchingRules, example: Example, call: Call, gold: GoldCall) -> Mismatch | None:
    """The first fault of a call, or None when it agrees with the gold call."""
    tool = rules.describe_function(example, gold)
    if tool is None:
        return Mismatch(Fault.NO_DESCRIPTION, "", gold.name, call.name)
    if call.name != tool["name"]:
        return Mismatch(Fault.FUNCTION, "", gold.name, call.name)
    for name in rules.required_parameters(tool):
        if name not in call.arguments:
            return Mismatch(Fault.MISSING_REQUIRED, name, gold.arguments.get(name), None)
    for name, value in call.arguments.items():
        if not rules.may_give(tool, gold, name, value):
            return Mismatch(Fault.UNEXPECTED, name, None, value)
        if not rules.accepts_value(tool, gold, name, value):
            return Mismatch(Fault.VALUE, name, gold.arguments[name], value)
    for name, accepted in gold.arguments.items():
        if name not in call.arguments and not rules.may_omit(tool, gold, name):
            return Mismatch(Fault.MISSING, name, accepted, None)
    return None


def describe_mismatch(found: Mismatch) -> str:
    """A mismatch as one sentence."""
    return _SENTENCES[found.fault].format(
        parameter=found.parameter, expected=short_json(found.expected), got=short_json(found.got)
    )


def short_json(value: Any, limit: int = 200) -> str:
    """A value as JSON, cut to `limit` characters."""
    text = json.dumps(value, ensure_ascii=False, default=repr, skipkeys=True)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def argument_agrees(rules: MatchingRules, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
    """Whether one given argument is right."""
    return rules.may_give(tool, gold, name, value) and rules.accepts_value(tool, gold, name, value)


def needed_parameters(rules: MatchingRules, tool: Tool | None, gold: GoldCall) -> set[str]:
    """The parameters that a right call must give: without a description, all of the gold call's."""
    if tool is None:
        return set(gold.arguments)
    return {name for name in gold.arguments if not rules.may_omit(tool, gold, name)} | {
        *rules.required_parameters(tool)
    }


def unmatched_calls(rules: MatchingRules, example: Example, calls: Sequence[Call]) -> tuple[list[int], list[Call]]:
    """Indices of the gold calls that no call answers, and the calls that answer none.

    Each gold call, in order, takes the first free call that agrees with it, as the official checker of BFCL does.
    """
    free, unmatched = list(calls), list[int]()
    for index, gold in enumerate(example.gold):
        found = next((i for i, call in enumerate(free) if find_mismatch(rules, example, call, gold) is None), None)
        if found is None:
            unmatched.append(index)
        else:
            free.pop(found)
    return unmatched, free

"""Compares calls with gold calls, argument by argument: what the outcome O and the error types are decided from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from itool_pipeline.calls.comparing import is_accepted, is_equal
from itool_pipeline.calls.reading import parse_response
from itool_pipeline.calls.tool_schema import Tool, bind_positional, find_tool, properties, required, tool_names
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example

BENCHMARK = "bfcl"
"""The source whose examples are decided exactly as the official checker decides."""

_POSITIONAL = re.compile(r"\*[0-9]+")


class Fault(Enum):
    """What can be wrong with a call, in the order in which it is looked for."""

    NO_DESCRIPTION = auto()  # the gold function is not among the tools
    FUNCTION = auto()
    MISSING_REQUIRED = auto()
    UNEXPECTED = auto()
    VALUE = auto()
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first fault of a call against a gold call. `expected` and `got` are values, or names of functions."""

    fault: Fault
    parameter: str = ""
    expected: Any = None
    got: Any = None


def is_benchmark(example: Example) -> bool:
    return example.source == BENCHMARK


def require_python(example: Example) -> None:
    """Raises ValueError for other languages: their values are text in another syntax."""
    if example.language != "python":
        raise ValueError(
            f"{example.id}: calls in {example.language} are decided by the official checker only "
            "(benchmarks.bfcl.OfficialChecker); here values are Python literals"
        )


def decode(example: Example, response: str) -> tuple[Call, ...]:
    """The calls of a response, read as the example's source is (official, or with quirks).

    Positional arguments are dropped, as the official decoder does, or bound to the tool's parameters.
    Raises ToolCallSyntaxError.
    """
    official = is_benchmark(example)
    calls = parse_response(response, tool_names(example.tools), quirks=not official)
    return tuple(readable(call, example) for call in calls)


def readable(call: Call, example: Example) -> Call:
    """The call with named arguments only (official), or with positional ones bound to parameters."""
    if is_benchmark(example):
        return Call(call.name, {k: v for k, v in call.arguments.items() if not _POSITIONAL.fullmatch(k)})
    return bind_positional(call, example.tools)


def mismatch(example: Example, call: Call, gold: GoldCall) -> Mismatch | None:
    """The first fault of a call, or None when it agrees with the gold call."""
    tool = description(example, gold)
    if tool is None:
        return Mismatch(Fault.NO_DESCRIPTION, "", gold.name, call.name)
    expected_name = tool["name"] if is_benchmark(example) else gold.name
    if call.name != expected_name:
        return Mismatch(Fault.FUNCTION, "", gold.name, call.name)
    for name in required(tool) if is_benchmark(example) else ():
        if name not in call.arguments:
            return Mismatch(Fault.MISSING_REQUIRED, name, gold.arguments.get(name), None)
    for name, value in call.arguments.items():
        if not is_expected(example, tool, gold, name, value):
            return Mismatch(Fault.UNEXPECTED, name, None, value)
        if not argument_agrees(example, tool, gold, name, value):
            return Mismatch(Fault.VALUE, name, gold.arguments[name], value)
    for name in missing(example, tool, gold, call.arguments):
        return Mismatch(Fault.MISSING, name, gold.arguments[name], None)
    return None


def is_expected(example: Example, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
    """Whether this parameter may be given at all. Outside the benchmark, a default may always be spelled out."""
    known = properties(tool)
    if is_benchmark(example):
        return name in known and name in gold.arguments
    return name in gold.arguments or _is_default(known.get(name), value)


def argument_agrees(example: Example, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
    """Whether the value of one given parameter is right."""
    if not is_expected(example, tool, gold, name, value):
        return False
    if is_benchmark(example):
        return is_accepted(value, gold.arguments[name], properties(tool)[name])
    if name not in gold.arguments:
        return True
    return any(is_equal(value, accepted) for accepted in gold.arguments[name])


def missing(example: Example, tool: Tool, gold: GoldCall, given: Mapping[str, Any]) -> list[str]:
    """Gold parameters that are not given and may not be left out.

    The benchmark marks those that may be left out with an empty string among the accepted values; elsewhere that is a
    value like any other, and a default may be left out.
    """
    known = properties(tool)
    return [
        name
        for name, accepted in gold.arguments.items()
        if name not in given
        and not ("" in accepted if is_benchmark(example) else any(_is_default(known.get(name), v) for v in accepted))
    ]


def needed(example: Example, gold: GoldCall) -> set[str]:
    """The parameters that a right call must give."""
    tool = description(example, gold)
    if tool is None:
        return set(gold.arguments)
    return {*missing(example, tool, gold, {}), *(required(tool) if is_benchmark(example) else ())}


def pair_in_any_order(example: Example, calls: Sequence[Call]) -> int | None:
    """Gives each gold call, in order, the first unused call that agrees with it, as the official checker does.

    Returns the index of the first gold call that finds none, or None when all do.
    """
    used: set[int] = set()
    for index, gold in enumerate(example.gold):
        free = (i for i, call in enumerate(calls) if i not in used and mismatch(example, call, gold) is None)
        found = next(free, None)
        if found is None:
            return index
        used.add(found)
    return None


def description(example: Example, gold: GoldCall) -> Tool | None:
    """The description of the gold function. The official checker takes a simple question's first tool unseen."""
    if not is_benchmark(example):
        return find_tool(example.tools, gold.name) or {"name": gold.name}
    simple = not any(word in example.category for word in ("parallel", "multiple"))
    return next(iter(example.tools), None) if simple else find_tool(example.tools, gold.name)


def _is_default(schema: Any, value: Any) -> bool:
    return isinstance(schema, Mapping) and "default" in schema and is_equal(value, schema["default"])

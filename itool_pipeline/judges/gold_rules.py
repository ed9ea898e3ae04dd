"""The rules for data sets with one gold value for each parameter: ToolACE, xLAM, API-Bank, a user's own calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.comparing import is_equal
from itool_pipeline.calls.tool_schema import Tool, bind_positional, find_tool, parameter_schemas
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example


@dataclass(frozen=True, slots=True)
class GoldRules:
    """As many calls as gold calls, in any order; values must be equal (`is_equal`), whatever type the schema says.

    A parameter with a default in its schema may be left out where the gold value is the default, also where the schema
    requires it; and the default may be given where the gold call has no value: a tool does the same either way. An
    empty string is a value like any other.
    """

    @property
    def quirks(self) -> bool:
        return True

    def name_arguments(self, call: Call, tools: Sequence[Tool]) -> Call:
        return bind_positional(call, tools)

    def count_calls(self, example: Example) -> int:
        return len(example.gold)

    def in_any_order(self, example: Example) -> bool:
        return True

    def describe_function(self, example: Example, gold: GoldCall) -> Tool:
        return find_tool(example.tools, gold.name) or {"name": gold.name}

    def required_parameters(self, tool: Tool) -> Sequence[str]:
        return ()

    def may_omit(self, tool: Tool, gold: GoldCall, name: str) -> bool:
        return any(_is_default(tool, name, value) for value in gold.arguments[name])

    def may_give(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        return name in gold.arguments or _is_default(tool, name, value)

    def accepts_value(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        # What the gold call leaves out may be given only as the default, and `may_give` has seen to that.
        return name not in gold.arguments or any(is_equal(value, accepted) for accepted in gold.arguments[name])


GOLD_RULES = GoldRules()


def _is_default(tool: Tool, name: str, value: Any) -> bool:
    schema = parameter_schemas(tool).get(name)
    return isinstance(schema, Mapping) and "default" in schema and is_equal(value, schema["default"])

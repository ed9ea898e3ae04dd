"""BFCL's own rules for Python calls: the decisions of its official checker, without its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.comparing import is_accepted
from itool_pipeline.calls.tool_schema import POSITIONAL, Tool, find_tool, parameter_schemas, required_parameters
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.config import BFCL_CATEGORIES, BfclKind
from itool_pipeline.core.types import Example

_PARALLEL = (BfclKind.PARALLEL, BfclKind.PARALLEL_MULTIPLE)


@dataclass(frozen=True, slots=True)
class BfclRules:
    """`parallel` kinds want as many calls as gold calls, in any order; `simple` and `multiple` ones want one call.

    Where the official checker would stop with an exception, the response is wrong.
    """

    @property
    def quirks(self) -> bool:
        return False

    def name_arguments(self, call: Call, tools: Sequence[Tool]) -> Call:
        """Positional arguments are dropped, as the official decoder does."""
        return Call(call.name, {k: v for k, v in call.arguments.items() if not POSITIONAL.fullmatch(k)})

    def count_calls(self, example: Example) -> int:
        """The official checker of simple questions wants one call, whatever the gold."""
        return 1 if _kind(example) is BfclKind.SIMPLE else len(example.gold)

    def in_any_order(self, example: Example) -> bool:
        return _kind(example) in _PARALLEL

    def describe_function(self, example: Example, gold: GoldCall) -> Tool | None:
        """The official checker takes a simple question's first tool unseen."""
        if _kind(example) is BfclKind.SIMPLE:
            return next(iter(example.tools), None)
        return find_tool(example.tools, gold.name)

    def required_parameters(self, tool: Tool) -> Sequence[str]:
        return required_parameters(tool)

    def may_omit(self, tool: Tool, gold: GoldCall, name: str) -> bool:
        """An empty string among the accepted values says so: the convention of BFCL's possible answers."""
        return "" in gold.arguments[name]

    def may_give(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        return name in parameter_schemas(tool) and name in gold.arguments

    def accepts_value(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        return is_accepted(value, gold.arguments[name], parameter_schemas(tool)[name])


BFCL_RULES = BfclRules()


def _kind(example: Example) -> BfclKind:
    return BFCL_CATEGORIES[example.category].kind

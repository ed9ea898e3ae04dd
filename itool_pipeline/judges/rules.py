"""What differs between sources when calls are compared with gold calls, and the reading of calls by these rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import Tool, tool_names
from itool_pipeline.calls.types import BegunCall, Call, GoldCall, ToolCallSyntaxError
from itool_pipeline.core.types import Example


class MatchingRules(Protocol):
    """How answers to one source's questions are read, and compared with its gold calls.

    `tool` is always the description that `describe_function` gives of the gold call's function.
    """

    @property
    def quirks(self) -> bool:
        """Whether calls are read with all that data sets hold, or as BFCL's own decoder reads them."""
        ...

    def name_arguments(self, call: Call, tools: Sequence[Tool]) -> Call:
        """The call with named arguments only: positional ones are bound to parameters, or dropped."""
        ...

    def count_calls(self, example: Example) -> int:
        """How many calls are right."""
        ...

    def in_any_order(self, example: Example) -> bool:
        """Whether any call may answer any gold call; otherwise the first is held against the first."""
        ...

    def describe_function(self, example: Example, gold: GoldCall) -> Tool | None:
        """The description by which the gold call's parameters are judged; None when there is none."""
        ...

    def required_parameters(self, tool: Tool) -> Sequence[str]:
        """Parameters that every call must give, whatever the gold call says."""
        ...

    def may_omit(self, tool: Tool, gold: GoldCall, name: str) -> bool:
        """Whether this parameter of the gold call may be left out."""
        ...

    def may_give(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        """Whether this parameter may be given at all."""
        ...

    def accepts_value(self, tool: Tool, gold: GoldCall, name: str, value: Any) -> bool:
        """Whether the value of a parameter that may be given is right."""
        ...


def require_python(example: Example) -> None:
    """Raises ValueError for other languages: their values are text in another syntax."""
    if example.language != "python":
        raise ValueError(
            f"{example.id}: calls in {example.language} are decided by the official checker only "
            "(benchmarks.bfcl.OfficialChecker); here values are Python literals"
        )


def read_calls(
    rules: MatchingRules, example: Example, response: str, syntax: CallSyntax = PYTHON_CALLS
) -> tuple[Call, ...]:
    """The calls of a complete response, with named arguments only. Raises ToolCallSyntaxError."""
    calls = syntax.read_response(response, tool_names(example.tools), quirks=rules.quirks)
    return tuple(named_call(rules, example, call, syntax) for call in calls)


def named_call(rules: MatchingRules, example: Example, call: Call, syntax: CallSyntax) -> Call:
    """The call with named arguments only, as the rules name or drop the others."""
    return rules.name_arguments(call, example.tools) if syntax.has_positional else call


def read_begun_calls(
    rules: MatchingRules, example: Example, partial: str, syntax: CallSyntax = PYTHON_CALLS
) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
    """The calls of a response that may stop anywhere, as they are written; and the error that ended the reading."""
    return syntax.finished_calls(partial, tool_names(example.tools), quirks=rules.quirks)

"""API-Bank verdicts: is the call of the right API, with the right parameters, by the APIs' own comparisons of inputs.

Nothing is executed. docs/api_bank.md tells where this differs from the benchmark's evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass

from itool_pipeline.benchmarks.api_bank.comparisons import OPTIONAL, agrees, in_type_of
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import Call, GoldCall, ToolCallSyntaxError
from itool_pipeline.core.types import Example
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mismatch import short_json
from itool_pipeline.judges.mistakes import ErrorType, Mistake, classify_mistake
from itool_pipeline.judges.rules import read_calls


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """The decision on one case.

    correct     right by the APIs' own comparisons
    exact       every value equal to the expected one, once both are of one type
    error_type  `no_call`, `calls`, `api`, `parameters` or `value`; empty when correct, as is `error`
    mistake     the paper's type of error; None when correct
    """

    correct: bool
    exact: bool
    error_type: str = ""
    error: str = ""
    mistake: Mistake | None = None


def decide(case: Example, output: str, syntax: CallSyntax = PYTHON_CALLS) -> CallVerdict:
    """The verdict on a model's output: the call that stands in it, or all of it."""
    text = syntax.part_with_calls(output)
    gold = case.gold[0]
    try:
        calls = read_calls(GOLD_RULES, case, text, syntax)
    except ToolCallSyntaxError as error:
        return _wrong(case, text, syntax, "no_call", f"no list of calls: {error}")
    if len(calls) != 1:
        return _wrong(case, text, syntax, "calls" if calls else "no_call", f"{len(calls)} calls where one is expected")
    call = calls[0]
    if call.name != gold.name:
        return _wrong(case, text, syntax, "api", f"calls {call.name} where {gold.name} is expected")
    given = {k: v for k, v in call.arguments.items() if k in gold.arguments or k not in _optional(gold)}
    lacking = set(gold.arguments) - set(given)
    unexpected = set(given) - set(gold.arguments)
    if lacking or unexpected:
        told = f"{gold.name} lacks the parameters {sorted(lacking)} and has {sorted(unexpected)} too many"
        return _wrong(case, text, syntax, "parameters", told)
    for name, value in given.items():
        if not any(agrees(gold.name, name, value, accepted) for accepted in gold.arguments[name]):
            return _wrong_value(gold, name, short_json(value))
    return CallVerdict(True, _is_exact(call, gold))


def _optional(gold: GoldCall) -> frozenset[str]:
    return OPTIONAL.get(gold.name, frozenset())


def _is_exact(call: Call, gold: GoldCall) -> bool:
    """The first accepted value is the benchmark's own."""
    expected = {name: accepted[0] for name, accepted in gold.arguments.items()}
    if set(call.arguments) != set(expected):
        return False
    return all(
        type(found := in_type_of(value, expected[name])) is type(expected[name]) and found == expected[name]
        for name, value in call.arguments.items()
    )


def _wrong(case: Example, text: str, syntax: CallSyntax, error_type: str, error: str) -> CallVerdict:
    return CallVerdict(False, False, error_type, error, classify_mistake(GOLD_RULES, case, text, syntax))


def _wrong_value(gold: GoldCall, parameter: str, got: str) -> CallVerdict:
    expected = short_json(list(gold.arguments[parameter]))
    error = f"{gold.name} has {got} for {parameter}; accepted: {expected}"
    return CallVerdict(
        False, False, "value", error, Mistake(ErrorType.PARAMETER_VALUE, gold.name, parameter, expected, got)
    )

"""The paper's seven types of error from the official checkers' own errors.

For cases that `judges.mistakes.classify_mistake` cannot decide: calls in Java and JavaScript, outputs that the official
decoder would have to run or its checker raises on, and multi-turn conversations. `possible_types` tells what it may
decide on the others.
A conversation's state or results can differ for many reasons that the official error does not tell; that is `other`.
"""

from __future__ import annotations

import re

from itool_pipeline.benchmarks.bfcl.official_checker import CHECKER_RAISED, DECODER_REFUSED, CaseVerdict
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.types import Example
from itool_pipeline.judges.mismatch import short_json
from itool_pipeline.judges.mistakes import ErrorType, Mistake

_PARAMETER = re.compile(r"[Pp]arameter:? '([^']*)'")
_UNDECODED = ("ast_decoder:decoder_failed", "ast_decoder:decoder_wrong_output_format", DECODER_REFUSED)
_TYPES = {
    "wrong_count": ErrorType.TOOLS_COUNT,
    "wrong_func_name": ErrorType.TOOL_NAME,
    "missing_required": ErrorType.PARAMETER_COUNT,
    "missing_optional": ErrorType.PARAMETER_COUNT,
    "unexpected_param": ErrorType.PARAMETER_NAME,
    "decoder_success": ErrorType.TOOLS_COUNT,
    "decoder_failed": ErrorType.TOOLS_COUNT,
    "empty_turn_model_response": ErrorType.TOOLS_COUNT,
    "force_terminated": ErrorType.TOOLS_COUNT,
}
"""By the second half of an official error type; those of the decoder are looked at before."""

_VALUES = ("type_error", "value_error", "dict_checker", "list_dict_checker")


def official_mistake(
    example: Example, verdict: CaseVerdict, output: str, syntax: CallSyntax = PYTHON_CALLS
) -> Mistake | None:
    """Why the output of a single-turn case is wrong; None when the verdict is correct."""
    if verdict.correct:
        return None
    function = example.gold[0].name if example.gold else ""
    if verdict.error_type in _UNDECODED:
        kind = ErrorType.CODE_SYNTAX if syntax.has_begun_call(output) else ErrorType.TOOLS_COUNT
        return Mistake(kind, function, got=short_json(output))
    found = _PARAMETER.search(verdict.error)
    return Mistake(error_type(verdict), function, found.group(1) if found else "")


_ANYWHERE = frozenset(
    {ErrorType.TOOL_NAME, ErrorType.PARAMETER_NAME, ErrorType.PARAMETER_COUNT, ErrorType.PARAMETER_VALUE}
)
_ARGUMENTS = frozenset({ErrorType.PARAMETER_NAME, ErrorType.PARAMETER_COUNT})
_NO_CALLS = frozenset({ErrorType.CODE_SYNTAX, ErrorType.TOOLS_COUNT})
_POSSIBLE = {
    "decoder_success": frozenset({ErrorType.TOOLS_COUNT}),
    "decoder_failed": _NO_CALLS,
    "decoder_wrong_output_format": _NO_CALLS,
    DECODER_REFUSED.rpartition(":")[2]: _NO_CALLS,
    "wrong_count": frozenset({ErrorType.TOOLS_COUNT}),
    "wrong_func_name": frozenset({ErrorType.TOOL_NAME}),
    "missing_required": _ARGUMENTS,
    "missing_optional": _ARGUMENTS,
    "unexpected_param": _ARGUMENTS,
    "cannot_find_match": _ANYWHERE,
    CHECKER_RAISED.rpartition(":")[2]: frozenset(ErrorType),
}
"""By the second half of an official error type; what is not named is a fault in a value or of its type."""


def possible_types(official: str) -> frozenset[ErrorType]:
    """The paper's types that an official error may stand for, as the official checker stops at its first fault."""
    return _POSSIBLE.get(official.rpartition(":")[2], _ANYWHERE - {ErrorType.TOOL_NAME})


def error_type(verdict: CaseVerdict) -> ErrorType:
    """The type of a wrong verdict from its official error type alone."""
    family, _, kind = verdict.error_type.rpartition(":")
    if family.startswith(_VALUES) or verdict.error_type.startswith(_VALUES):
        return ErrorType.PARAMETER_VALUE
    return _TYPES.get(kind, ErrorType.OTHER)

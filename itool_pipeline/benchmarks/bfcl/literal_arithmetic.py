"""What the official decoder's `eval` gives for the arithmetic in an argument, without executing anything.

The decoder hands expressions such as `2 * 3` to `eval`. What is decoded comes from a model, so our run gives the
decoder this function in the place of `eval`: same values for arithmetic between literals, refusal of anything else.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection
from typing import Any

from itool_pipeline.calls.arithmetic import CodeRefused, arithmetic_value
from itool_pipeline.calls.python_values import parsed_expression
from itool_pipeline.calls.types import ToolCallSyntaxError

_BINDING = (ast.comprehension, ast.Lambda, ast.NamedExpr)


def evaluate_literals(text: str, known_names: Collection[str] = ()) -> Any:
    """The value that `eval` would give, for literals joined by arithmetic.

    Raises what `eval` would raise for arithmetic that fails (ZeroDivisionError, TypeError) and NameError for a name
    that is neither a builtin nor in `known_names`. Raises CodeRefused where `eval` would have run code, and for what
    is nested too deeply to be parsed.
    """
    try:
        expression = parsed_expression(text)
    except ToolCallSyntaxError as error:
        raise CodeRefused(str(error)) from None
    _refuse_code(expression, known_names)
    return arithmetic_value(expression)


def evaluate_answer(text: str, known_names: Collection[str] = ()) -> Any:
    """The same for a whole answer, which may be words: these are a SyntaxError, as they are to `eval`.

    Raises CodeRefused where `eval` would run code, and for what is nested too deeply or too long to be parsed.
    """
    try:
        return evaluate_literals(text, known_names)
    except CodeRefused:
        if _is_no_python(text):
            raise SyntaxError("invalid syntax") from None
        raise


def _is_no_python(text: str) -> bool:
    """Whether a text is refused for brackets or quotes that do not match, before any parser sees it."""
    try:
        parsed_expression(text)
    except ToolCallSyntaxError as error:
        return "levels deep" not in error.reason and "characters" not in error.reason
    return False


def _refuse_code(expression: ast.expr, known_names: Collection[str]) -> None:
    nodes = list(ast.walk(expression))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    unknown = [name for name in names if name not in known_names and not hasattr(builtins, name)]
    if unknown and not any(isinstance(node, _BINDING) for node in nodes):
        raise NameError(f"name {unknown[0]!r} is not defined")

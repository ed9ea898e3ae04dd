"""Arithmetic between literals, such as `2 * 3` as an argument, without executing anything.

BFCL's official decoder hands such expressions to `eval`. What is decoded comes from a model, so here the same values
are worked out operation by operation, and anything that is not arithmetic on literals is refused. The one arithmetic
of this package: what has a value to the reward has the same value to the scores.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

MAX_BITS = 14_000
"""Bits of the longest whole number. 14,000 bits have at most 4,215 decimal digits, and Python prints no more than
4,300: every number that has a value can also be shown in an error and written to a file."""

MAX_ITEMS = 100_000
"""Characters or items of the longest text, list or tuple that repetition makes."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}


class CodeRefused(Exception):
    """The text is code that would have to run, or a result too large to hold."""


def arithmetic_value(node: ast.expr | None) -> Any:
    """The value that `eval` would give to literals joined by arithmetic.

    Raises what `eval` would raise for arithmetic that fails (ArithmeticError, TypeError, ValueError), and CodeRefused
    for what is no arithmetic on literals or has too large a value.
    """
    match node:
        case ast.Constant(value=int() as number) if number.bit_length() > MAX_BITS:
            # Hexadecimal digits spell a number of any length; of decimal ones Python itself takes no more than 4,300.
            raise CodeRefused("a number too large to print")
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](arithmetic_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(type(op), arithmetic_value(left), arithmetic_value(right))
        case ast.List(elts=items):
            return [arithmetic_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(arithmetic_value(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {arithmetic_value(key): arithmetic_value(value) for key, value in zip(keys, values, strict=True)}
    raise CodeRefused(f"not a literal: {ast.unparse(node) if node else '**'}")


def _bounded(op: type[ast.operator], left: Any, right: Any) -> Any:
    if _too_large(op, left, right):
        raise CodeRefused("the result would be too large")
    return _BINARY[op](left, right)


def _too_large(op: type[ast.operator], left: Any, right: Any) -> bool:
    """Whether a small text would make a large value (or, by `%`, format text)."""
    integers = isinstance(left, int) and isinstance(right, int)
    if op is ast.Pow:
        return integers and right > 0 and left.bit_length() * right > MAX_BITS
    if op is ast.LShift:
        return integers and left.bit_length() + right > MAX_BITS
    if op is ast.Mult:
        for items, times in ((left, right), (right, left)):
            if isinstance(items, str | bytes | list | tuple) and isinstance(times, int):
                return len(items) * times > MAX_ITEMS
        return integers and left.bit_length() + right.bit_length() > MAX_BITS
    return op is ast.Mod and isinstance(left, str | bytes)

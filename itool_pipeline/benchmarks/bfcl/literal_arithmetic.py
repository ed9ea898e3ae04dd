"""Arithmetic between literals, such as `2 * 3` as an argument, without executing anything.

BFCL's official decoder hands such expressions to `eval`. What is decoded comes from a model, so our run gives the
decoder this function in the place of `eval`: same values for arithmetic between literals, refusal of anything else.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable, Collection
from typing import Any

MAX_BITS = 10_000
MAX_ITEMS = 100_000

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
_BINDING = (ast.comprehension, ast.Lambda, ast.NamedExpr)


class CodeRefused(Exception):
    """The text is code that would have to run, or a result too large to hold."""


def evaluate(text: str, known_names: Collection[str] = ()) -> Any:
    """The value that `eval` would give, for literals joined by arithmetic.

    Raises what `eval` would raise for arithmetic that fails (ZeroDivisionError, TypeError) and NameError for a name
    that is neither a builtin nor in `known_names`. Raises CodeRefused where `eval` would have run code.
    """
    tree = ast.parse(text, mode="eval")
    _refuse_code(tree, known_names)
    return _value(tree.body)


def _refuse_code(tree: ast.Expression, known_names: Collection[str]) -> None:
    nodes = list(ast.walk(tree))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    unknown = [name for name in names if name not in known_names and not hasattr(builtins, name)]
    if unknown and not any(isinstance(node, _BINDING) for node in nodes):
        raise NameError(f"name {unknown[0]!r} is not defined")


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(type(op), _value(left), _value(right))
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
    raise CodeRefused(f"not a literal: {ast.unparse(node)}")


def _bounded(op: type[ast.operator], left: Any, right: Any) -> Any:
    if _too_large(op, left, right):
        raise CodeRefused("the result would be too large")
    return _BINARY[op](left, right)


def _too_large(op: type[ast.operator], left: Any, right: Any) -> bool:
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

"""What an expression in a tool call stands for, by the rules of BFCL's decoder: literals are values, names are text.

The decoder evaluates arithmetic with Python's `eval`; here arithmetic on literals is done by hand, with bounds on the
size of the result, and everything else is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from itool_pipeline.calls.expression_tree import Kind, Node, unparse
from itool_pipeline.calls.scanner import ToolCallSyntaxError

_MAX_BITS = 14_000  # about 4,300 decimal digits, the longest number that Python prints
_MAX_ITEMS = 100_000
_JSON_LITERALS = {"true": True, "false": False, "null": None}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": operator.invert,
    "not": operator.not_,
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "|": operator.or_,
    "&": operator.and_,
    "^": operator.xor,
}


def resolve(node: Node, quirks: bool) -> Any:
    """The value of an argument. Raises ToolCallSyntaxError for an expression that cannot be one.

    As BFCL's decoder has it, a bare name is its text, a nested call with keyword arguments is `{name: {argument:
    value}}`, one without is its text, an index is its text, and *any* unary operator negates. `quirks` reads `true`,
    `false` and `null` as JSON does, `+1` as 1, and attributes as text; the decoder refuses the last.
    """
    match node.kind:
        case Kind.CONSTANT:
            return "..." if node.value is ... else node.value
        case Kind.NAME:
            return _JSON_LITERALS.get(node.value, node.value) if quirks else node.value
        case Kind.LIST:
            return [resolve(item, quirks) for item in node.children]
        case Kind.TUPLE:
            return tuple(resolve(item, quirks) for item in node.children)
        case Kind.DICT:
            return _dictionary(node, [resolve(part, quirks) for part in node.children])
        case Kind.UNARY:
            return _evaluate(node) if quirks else _negated(node)
        case Kind.BINARY if node.value in _BINARY:
            return _evaluate(node)
        case Kind.CALL if any(label not in (None, "*") for label in node.value):
            return {function_name(node): call_arguments(node, quirks)}
        case Kind.CALL:
            return unparse(node)
        case Kind.SUBSCRIPT:
            return f"{unparse(node.children[0])}[{unparse(node.children[1])}]"
        case Kind.ATTRIBUTE if quirks:
            return unparse(node)
        case _:
            raise _unsupported(node)


def function_name(call: Node) -> str:
    """The dotted name of the function called. What is no name in it is left out, as BFCL's decoder does."""
    parts: list[str] = []
    node = call.children[0]
    while node.kind is Kind.ATTRIBUTE:
        parts.append(node.value)
        node = node.children[0]
    if node.kind is Kind.NAME:
        parts.append(node.value)
    return ".".join(reversed(parts))


def call_arguments(call: Node, quirks: bool) -> dict[str, Any]:
    """The arguments of a call node by name. The decoder forgets positional ones, and so do we when nested."""
    return labelled(list(zip(call.value, call.children[1:], strict=True)), quirks, positional=False)


def labelled(read: list[tuple[str | None, Node]], quirks: bool, positional: bool = True) -> dict[str, Any]:
    """Arguments by name; the i-th positional one is named `*i`, an unpacked mapping `**`.

    BFCL's decoder never looks at positional arguments, so one that has no value is kept as its text.
    """
    arguments: dict[str, Any] = {}
    for index, (label, node) in enumerate(read):
        if label not in (None, "*"):
            arguments[str(label)] = resolve(node, quirks)
        elif positional:
            arguments[f"*{index}"] = _positional(node, quirks)
    return arguments


def _positional(node: Node, quirks: bool) -> Any:
    try:
        return resolve(node, quirks)
    except ToolCallSyntaxError:
        if quirks:
            raise
        return unparse(node)


def _negated(node: Node) -> Any:
    (operand,) = node.children
    if operand.kind is not Kind.CONSTANT or not isinstance(operand.value, int | float | complex):
        raise _unsupported(node)
    return -operand.value


def _evaluate(node: Node) -> Any:
    """Arithmetic on literals."""
    parts = [_evaluate(child) for child in node.children]
    match node.kind:
        case Kind.CONSTANT:
            return node.value
        case Kind.LIST:
            return parts
        case Kind.TUPLE:
            return tuple(parts)
        case Kind.DICT:
            return _dictionary(node, parts)
        case Kind.UNARY:
            return _applied(node, _UNARY[node.value], parts)
        case Kind.BINARY if node.value in _BINARY and not _too_large(node.value, *parts):
            return _applied(node, _BINARY[node.value], parts)
    raise _unsupported(node)


def _applied(node: Node, function: Callable[..., Any], operands: list[Any]) -> Any:
    try:
        return function(*operands)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ToolCallSyntaxError(node.position, f"no value: {error}") from error


def _too_large(symbol: str, left: Any, right: Any) -> bool:
    """Whether a small text would make a large value (or, by `%`, format text)."""
    if symbol in ("**", "<<") and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        return right > 0 and (bits + right if symbol == "<<" else bits * right) > _MAX_BITS
    if symbol == "*":
        lengths = [len(side) for side in (left, right) if isinstance(side, str | bytes | list | tuple)]
        counts = [side for side in (left, right) if isinstance(side, int)]
        if lengths and counts:
            return lengths[0] * counts[0] > _MAX_ITEMS
        return len(counts) == 2 and counts[0].bit_length() + counts[1].bit_length() > _MAX_BITS
    return symbol == "%" and isinstance(left, str | bytes)


def _dictionary(node: Node, parts: list[Any]) -> dict[Any, Any]:
    try:
        return dict(zip(parts[::2], parts[1::2], strict=True))
    except TypeError as error:
        raise ToolCallSyntaxError(node.position, f"no dictionary: {error}") from error


def _unsupported(node: Node) -> ToolCallSyntaxError:
    return ToolCallSyntaxError(node.position, f"no argument value: {unparse(node)[:40]}")

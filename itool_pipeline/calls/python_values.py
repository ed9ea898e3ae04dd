"""What an argument stands for, by the rules of BFCL's decoder: literals are values, names are text.

Python's own parser reads the argument, after `python_text` has bounded its length and its nesting, so no text can
exhaust the stack or the memory. Nothing is evaluated but arithmetic on literals (see `arithmetic`).
"""

from __future__ import annotations

import ast
import codeop
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from keyword import kwlist
from typing import Any

from itool_pipeline.calls.arithmetic import CodeRefused, arithmetic_value
from itool_pipeline.calls.python_text import ArgumentSlice, TextScanner
from itool_pipeline.calls.types import ToolCallSyntaxError

_JSON_LITERALS = {"true": True, "false": False, "null": None}
_WITHOUT_VALUE = (CodeRefused, ArithmeticError, TypeError, ValueError)
"""What reading the value of an expression fails with."""


@contextmanager
def without_remarks() -> Iterator[None]:
    """Silences what Python's parser remarks on escapes and numbers that a model wrote. For a whole reading at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def argument_value(before: str, piece: ArgumentSlice, quirks: bool) -> tuple[str, Any]:
    """The label of an argument and its value; the label is '' for a positional one, `*` or `**` for unpacking.

    before  an opened call, `f(` and what of its arguments decides whether this one may follow

    Raises ToolCallSyntaxError; more text can mend it if the argument is unfinished and Python could read on.
    """
    tree = _parsed_slice(before, piece, ")")
    assert isinstance(tree, ast.Call)
    read = [("*" if isinstance(node, ast.Starred) else "", node) for node in tree.args]
    read += [(keyword.arg or "**", keyword.value) for keyword in tree.keywords]
    own = [(label, node) for label, node in read if node.lineno > 1 or node.col_offset >= len(before)]
    if not own:
        raise ToolCallSyntaxError(piece.start, "expected an argument")
    ((label, node),) = own
    try:
        return label, _positional(node, quirks) if label in ("", "*") else _resolved(node, quirks)
    except _WITHOUT_VALUE as error:
        raise ToolCallSyntaxError(piece.start, f"no value: {error}") from error


def call_value(piece: ArgumentSlice) -> tuple[str, dict[str, Any]] | None:
    """The name and the arguments of an expression that ends in a call, such as `f(a=1).g(b=2)`, officially read.

    None for any other expression. Raises ToolCallSyntaxError for what is no expression.
    """
    tree = _parsed_slice("[", piece, "]")
    match tree:
        case ast.List(elts=[ast.Call() as call]):
            positional = {f"*{index}": _positional(node, quirks=False) for index, node in enumerate(call.args)}
            try:
                return _function_name(call), {**positional, **_named_arguments(call, quirks=False)}
            except _WITHOUT_VALUE as error:
                raise ToolCallSyntaxError(piece.start, f"no value: {error}") from error
    return None


def _resolved(node: ast.expr | None, quirks: bool) -> Any:
    """The value of an expression. Raises CodeRefused for one that cannot be a value, and what arithmetic raises.

    As BFCL's decoder has it, a bare name is its text, a nested call with keyword arguments is `{name: {argument:
    value}}`, one without is its text, an index is its text, and *any* unary operator negates. `quirks` reads `true`,
    `false` and `null` as JSON does, `+1` as 1, and attributes as text; the decoder refuses the last.
    """
    match node:
        case ast.Constant(value=value):
            return "..." if value is ... else arithmetic_value(node)
        case ast.Name(id=name):
            return _JSON_LITERALS.get(name, name) if quirks else name
        case ast.List(elts=items):
            return [_resolved(item, quirks) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_resolved(item, quirks) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {_resolved(key, quirks): _resolved(value, quirks) for key, value in zip(keys, values, strict=True)}
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() | complex()) as number) if not quirks:
            return -arithmetic_value(number)
        case ast.BinOp():
            return arithmetic_value(node)
        case ast.UnaryOp() if quirks:
            return arithmetic_value(node)
        case ast.Call(keywords=[]):
            return ast.unparse(node)
        case ast.Call():
            # The decoder forgets positional arguments, and so do we when nested.
            return {_function_name(node): _named_arguments(node, quirks)}
        case ast.Subscript(value=value, slice=index):
            return f"{ast.unparse(value)}[{ast.unparse(index)}]"
        case ast.Attribute() if quirks:
            return ast.unparse(node)
    raise CodeRefused(f"no argument value: {ast.unparse(node)[:40] if node else '**'}")


def _function_name(call: ast.Call) -> str:
    """The dotted name of the function called. What is no name in it is left out, as BFCL's decoder does."""
    parts: list[str] = []
    node = call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def parsed_expression(text: str) -> ast.expr:
    """The syntax tree of one expression.

    Raises SyntaxError, as `eval` does, and ToolCallSyntaxError for what is too long or nested too deeply to be parsed.
    """
    scanner = TextScanner(text)
    while not scanner.at_end:
        # Up to each comma at the outermost level, where a tuple needs no bracket.
        scanner.argument("")
        scanner.accept(",")
    with without_remarks():
        return ast.parse(text, "<string>", mode="eval").body


def literal_value(text: str) -> Any:
    """The value of a Python or JSON literal; the text itself when it is none. Nothing is evaluated."""
    try:
        return ast.literal_eval(parsed_expression(text.lstrip(" \t")))
    except (SyntaxError, TypeError, ValueError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _named_arguments(call: ast.Call, quirks: bool) -> dict[str, Any]:
    return {keyword.arg or "**": _resolved(keyword.value, quirks) for keyword in call.keywords}


def _positional(node: ast.expr, quirks: bool) -> Any:
    """BFCL's decoder never looks at positional arguments, so one that has no value is kept as its text."""
    value = node.value if isinstance(node, ast.Starred) else node
    try:
        return _resolved(value, quirks)
    except _WITHOUT_VALUE:
        if quirks:
            raise
        return ast.unparse(value)


def _parsed_slice(before: str, piece: ArgumentSlice, after: str) -> ast.expr:
    text = before + piece.text
    if not piece.finished and _may_go_on(text):
        raise ToolCallSyntaxError(piece.end, "the text ends within an argument", ended=True)
    try:
        return ast.parse(f"{text}\n{after}", mode="eval").body
    except SyntaxError as error:
        # Python says line and column, from 1, of all that it was given; behind it, for some strings with no value.
        lines = text.split("\n")[: (error.lineno or 1) - 1]
        offset = sum(len(line) + 1 for line in lines) + (error.offset or 1) - 1 - len(before)
        inside = 0 <= offset < len(piece.text)
        raise ToolCallSyntaxError(piece.start + (offset if inside else 0), error.msg) from None


def _may_go_on(text: str) -> bool:
    """Whether a text that stops within brackets is the beginning of one that Python can read.

    Python's own parser says so: it tells an input that is wrong from one that is merely incomplete. But it takes the
    last word as it stands, and a text may stop within it: `i` can become `if` or `item`, `1.` can become `1.5`.
    """
    start = len(text)
    while text[start - 1].isalpha() or text[start - 1] == "_":
        start -= 1
    letters = text[start:]
    if letters:
        words = (word.removeprefix(letters) for word in kwlist if word.startswith(letters))
        ends = ("", "_", "0", "''", *words)
    else:
        ends = ("", "0", ".", "=")
    return any(_is_incomplete(text + end) for end in ends)


def _is_incomplete(text: str) -> bool:
    try:
        return codeop.compile_command(text, symbol="eval") is None
    except (SyntaxError, ValueError, OverflowError):
        return False

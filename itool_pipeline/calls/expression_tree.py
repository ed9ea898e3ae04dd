"""The syntax tree of an expression in a tool call, and the expression back as text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

_PRECEDENCE = {
    **dict.fromkeys(["or"], 1),
    **dict.fromkeys(["and"], 2),
    **dict.fromkeys(["not in", "in", "is", "is not", "<", "<=", ">", ">=", "==", "!="], 4),
    **dict.fromkeys(["|"], 5),
    **dict.fromkeys(["^"], 6),
    **dict.fromkeys(["&"], 7),
    **dict.fromkeys(["<<", ">>"], 8),
    **dict.fromkeys(["+", "-"], 9),
    **dict.fromkeys(["*", "/", "//", "%", "@"], 10),
    **dict.fromkeys(["**"], 12),
}
NOT_PRECEDENCE, UNARY_PRECEDENCE = 3, 11


class Kind(Enum):
    """What a node is; `Node.value` and `Node.children` hold the part named here."""

    CONSTANT = auto()  # value: the constant
    FORMATTED = auto()  # value: the source of an f-string
    NAME = auto()  # value: the name
    ATTRIBUTE = auto()  # value: the attribute; children: the object
    CALL = auto()  # value: a label for each argument (None, '*', '**' or its name); children: function, arguments
    SUBSCRIPT = auto()  # children: object, index
    SLICE = auto()  # value: which of lower, upper, step are there; children: those
    LIST = auto()  # children: items
    TUPLE = auto()  # children: items
    DICT = auto()  # children: key, value, key, value, ...
    STARRED = auto()  # children: the iterable
    UNARY = auto()  # value: the operator; children: the operand
    BINARY = auto()  # value: the operator; children: left, right
    CONDITIONAL = auto()  # children: value if true, condition, value if false


@dataclass(frozen=True, slots=True)
class Node:
    kind: Kind
    value: Any
    children: tuple[Node, ...]
    position: int
    height: int


def precedence(operator: str) -> int:
    """Higher binds tighter; between 1 (`or`) and 12 (`**`)."""
    return _PRECEDENCE[operator]


def unparse(node: Node) -> str:
    """The expression as text, laid out as `ast.unparse` does."""
    parts = [unparse(child) for child in node.children]
    match node.kind:
        case Kind.CONSTANT:
            return "..." if node.value is ... else repr(node.value).replace("inf", "1e309")
        case Kind.NAME | Kind.FORMATTED:
            return str(node.value)
        case Kind.ATTRIBUTE:
            space = " " if _is_integer(node.children[0]) else ""
            return f"{_bracketed(node.children[0], parts[0])}{space}.{node.value}"
        case Kind.CALL:
            texts = [_argument(label, text) for label, text in zip(node.value, parts[1:], strict=True)]
            return f"{_bracketed(node.children[0], parts[0])}({', '.join(texts)})"
        case Kind.SUBSCRIPT:
            index = parts[1][1:-1] if node.children[1].kind is Kind.TUPLE and node.children[1].children else parts[1]
            return f"{_bracketed(node.children[0], parts[0])}[{index}]"
        case Kind.SLICE:
            remaining = iter(parts)
            return ":".join(next(remaining) if present else "" for present in node.value)
        case Kind.LIST:
            return f"[{', '.join(parts)}]"
        case Kind.TUPLE:
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        case Kind.DICT:
            return "{" + ", ".join(f"{key}: {value}" for key, value in zip(parts[::2], parts[1::2], strict=True)) + "}"
        case Kind.STARRED:
            return f"*{parts[0]}"
        case _:
            return _unparse_operation(node, parts)


def _argument(label: str | None, text: str) -> str:
    return text if label is None else f"{label}{text}" if label in ("*", "**") else f"{label}={text}"


def _unparse_operation(node: Node, parts: list[str]) -> str:
    own = _binding(node)
    if node.kind is Kind.UNARY:
        return f"{node.value}{' ' if node.value == 'not' else ''}{_wrap(node.children[0], parts[0], own)}"
    if node.kind is Kind.CONDITIONAL:
        return f"{parts[0]} if {parts[1]} else {parts[2]}"
    right_first, logical = node.value == "**", node.value in ("and", "or")
    left = _wrap(node.children[0], parts[0], own + right_first)
    right = _wrap(node.children[1], parts[1], own if right_first else own + 1 + logical)
    return f"{left} {node.value} {right}"


def _binding(node: Node) -> int:
    """How tightly the outermost operator binds; 13 for what has none."""
    match node.kind:
        case Kind.CONDITIONAL:
            return 0
        case Kind.UNARY:
            return NOT_PRECEDENCE if node.value == "not" else UNARY_PRECEDENCE
        case Kind.BINARY:
            return precedence(node.value)
        case _:
            return 13


def _wrap(node: Node, text: str, least: int) -> str:
    return f"({text})" if _binding(node) < least else text


def _bracketed(node: Node, text: str) -> str:
    return f"({text})" if _binding(node) < 13 else text


def _is_integer(node: Node) -> bool:
    return node.kind is Kind.CONSTANT and isinstance(node.value, int)

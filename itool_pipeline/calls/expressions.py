"""A recursive-descent parser for Python expressions: literals, names, calls, operators; no lambda, no comprehension.

What it leaves out is nothing that a tool call can carry as a value. Nesting is bounded, so deep input is an ordinary
syntax error and never exhausts the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from keyword import iskeyword
from typing import Any

from itool_pipeline.calls.expression_tree import NOT_PRECEDENCE, UNARY_PRECEDENCE, Kind, Node, precedence
from itool_pipeline.calls.scanner import FormattedString, Scanner, ToolCallSyntaxError

MAX_DEPTH = 60
"""Levels of nesting (brackets, operators, attribute chains) that an expression may have."""

_OPERATOR = re.compile(r"\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%@&|^<>]|(?:and|or|is|in|not)\b")
_UNARY = re.compile(r"[-+~]|not\b")
_SECOND_WORD = {"not": re.compile(r"in\b"), "is": re.compile(r"not\b")}
_CONSTANTS = {"True": True, "False": False, "None": None}
_EQUALS = re.compile(r"=(?!=)")


class ExpressionParser:
    """Reads one expression after another from a scanner that stands on no space."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self._depth = 0

    def expression(self) -> Node:
        """An expression with conditionals (`a if b else c`). Raises ToolCallSyntaxError."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.scanner.error(f"nested more than {MAX_DEPTH} levels deep")
        start = self.scanner.position
        node = self._operation(0)
        if self._accept_word("if"):
            condition = self._operation(0)
            if not self._accept_word("else"):
                raise self.scanner.error("expected 'else'")
            node = self._node(Kind.CONDITIONAL, None, (node, condition, self.expression()), start)
        self._depth -= 1
        return node

    def arguments(self, label: Callable[[], str] | None = None) -> list[tuple[str | None, Node]]:
        """The arguments of a call after its `(`, with its `)`: pairs of a label (as in Kind.CALL) and a value.

        `label` reads the name of a keyword argument with its `=`, or returns ''.
        """
        read: list[tuple[str | None, Node]] = []
        labels: set[str | None] = set()
        while not self.scanner.accept(")"):
            read.append(self.argument(label or self.keyword, labels))
            if not self.scanner.next_is(")"):
                self.scanner.expect(",")
        return read

    def argument(self, label: Callable[[], str], labels: set[str | None]) -> tuple[str | None, Node]:
        """One argument. `labels` holds those before it, and takes its own.

        Python forbids a positional argument after a keyword, and `*` after `**`.
        """
        name: str | None
        if self.scanner.accept("**"):
            name = "**"
        elif self.scanner.accept("*"):
            name = "*"
        else:
            name = label() or None
        forbidden = (name is None and labels - {None, "*"}) or (name == "*" and "**" in labels)
        value = self.expression()
        if forbidden:
            raise self.scanner.error("a positional argument follows a keyword argument")
        labels.add(name)
        return name, value

    def keyword(self) -> str:
        """Read `name=` when it is next."""
        start = self.scanner.position
        word = self.scanner.peek_word()
        if not word:
            return ""
        name = self.scanner.word()
        self.scanner.skip_space()
        if not self.scanner.match(_EQUALS):
            self.scanner.position = start
            return ""
        if iskeyword(name):
            raise ToolCallSyntaxError(start, f"{name!r} is a keyword of Python, no argument name")
        self.scanner.skip_space()
        return name

    def _operation(self, minimum: int) -> Node:
        """Operator precedence climbing: an operation whose operators bind tighter than `minimum`."""
        start = self.scanner.position
        unary = self.scanner.match(_UNARY)
        node = self._unary(unary.group(), minimum, start) if unary else self._primary()
        while True:
            before = self.scanner.position
            operator = self._operator()
            if not operator or precedence(operator) <= minimum:
                self.scanner.position = before
                return node
            # `**` groups to the right and lets a sign follow; the others group to the left.
            right = self._nested(UNARY_PRECEDENCE - 1 if operator == "**" else precedence(operator))
            node = self._node(Kind.BINARY, operator, (node, right), start)

    def _unary(self, operator: str, minimum: int, start: int) -> Node:
        self.scanner.skip_space()
        if operator == "not" and minimum >= NOT_PRECEDENCE + 1:
            raise ToolCallSyntaxError(start, "'not' after an operator that binds tighter")
        operand = self._nested(NOT_PRECEDENCE - 1 if operator == "not" else UNARY_PRECEDENCE - 1)
        return self._node(Kind.UNARY, operator, (operand,), start)

    def _nested(self, minimum: int) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self.scanner.error(f"nested more than {MAX_DEPTH} levels deep")
        node = self._operation(minimum)
        self._depth -= 1
        return node

    def _operator(self) -> str:
        found = self.scanner.match(_OPERATOR)
        if not found:
            return ""
        operator = found.group()
        self.scanner.skip_space()
        if operator in _SECOND_WORD:
            if self.scanner.match(_SECOND_WORD[operator]):
                operator = "not in" if operator == "not" else "is not"
                self.scanner.skip_space()
            elif operator == "not":
                return ""
        return operator

    def _primary(self) -> Node:
        """An atom with the calls, attributes and indices after it."""
        start = self.scanner.position
        node = self._atom()
        while True:
            if self.scanner.accept("("):
                read = self.arguments()
                labels = tuple(label for label, _ in read)
                node = self._node(Kind.CALL, labels, (node, *(value for _, value in read)), start)
            elif self.scanner.accept("["):
                node = self._node(Kind.SUBSCRIPT, None, (node, self._index()), start)
            elif self.scanner.accept("."):
                node = self._node(Kind.ATTRIBUTE, self._name(), (node,), start)
            else:
                return node

    def _atom(self) -> Node:
        scanner, start = self.scanner, self.scanner.position
        if scanner.accept("("):
            return self._parenthesis(start)
        if scanner.accept("["):
            return self._node(Kind.LIST, None, self._items("]")[0], start)
        if scanner.accept("{"):
            return self._node(Kind.DICT, None, self._pairs(), start)
        if scanner.accept("..."):
            return self._node(Kind.CONSTANT, ..., (), start)
        if (text := scanner.string()) is not None:
            return self._strings(text, start)
        if (number := scanner.number()) is not None:
            scanner.skip_space()
            return self._node(Kind.CONSTANT, number, (), start)
        word = scanner.word()
        scanner.skip_space()
        if word in _CONSTANTS:
            return self._node(Kind.CONSTANT, _CONSTANTS[word], (), start)
        if not word or iskeyword(word):
            # A text that stops within a word may have been about to say another word.
            ended = start >= len(scanner.text) or bool(word and scanner.at_end)
            raise ToolCallSyntaxError(
                start, f"expected a value, found {scanner.text[start : start + 20]!r}", ended=ended
            )
        return self._node(Kind.NAME, word, (), start)

    def _strings(self, first: str | bytes, start: int) -> Node:
        """Neighbouring string literals are one string."""
        parts = [first]
        self.scanner.skip_space()
        while (more := self.scanner.string()) is not None:
            parts.append(more)
            self.scanner.skip_space()
        if any(isinstance(part, bytes) != isinstance(first, bytes) for part in parts):
            raise ToolCallSyntaxError(start, "bytes and text in one string")
        if any(isinstance(part, FormattedString) for part in parts):
            return self._node(Kind.FORMATTED, self.scanner.text[start : self.scanner.position].strip(), (), start)
        joined = first[:0].join(parts)  # type: ignore[arg-type]
        return self._node(Kind.CONSTANT, joined, (), start)

    def _parenthesis(self, start: int) -> Node:
        items, comma = self._items(")")
        if len(items) == 1 and not comma:
            if items[0].kind is Kind.STARRED:
                raise ToolCallSyntaxError(start, "a starred expression outside a list")
            return items[0]
        return self._node(Kind.TUPLE, None, items, start)

    def _items(self, closing: str) -> tuple[tuple[Node, ...], bool]:
        """Items up to the closing bracket, and whether there was a comma."""
        items: list[Node] = []
        comma = False
        while not self.scanner.accept(closing):
            start = self.scanner.position
            if self.scanner.next_is("*") and not self.scanner.next_is("**"):
                self.scanner.accept("*")
                items.append(self._node(Kind.STARRED, None, (self._nested(4),), start))
            else:
                items.append(self.expression())
            if not self.scanner.next_is(closing):
                self.scanner.expect(",")
                comma = True
        return tuple(items), comma

    def _pairs(self) -> tuple[Node, ...]:
        parts: list[Node] = []
        while not self.scanner.accept("}"):
            parts.append(self.expression())
            self.scanner.expect(":")
            parts.append(self.expression())
            if not self.scanner.next_is("}"):
                self.scanner.expect(",")
        return tuple(parts)

    def _index(self) -> Node:
        start = self.scanner.position
        parts: list[Node] = []
        comma = False
        while not self.scanner.next_is("]") or not parts:
            parts.append(self._slice())
            if not self.scanner.next_is("]"):
                self.scanner.expect(",")
                comma = True
        self.scanner.expect("]")
        return self._node(Kind.TUPLE, None, tuple(parts), start) if comma else parts[0]

    def _slice(self) -> Node:
        start = self.scanner.position
        parts: list[Node | None] = []
        while True:
            parts.append(None if self.scanner.next_is(":", ",", "]") else self.expression())
            if len(parts) == 3 or not self.scanner.accept(":"):
                break
        if len(parts) == 1 and parts[0] is not None:
            return parts[0]
        if len(parts) == 1:
            raise self.scanner.error("expected an index")
        if parts[-1] is None and len(parts) == 3:
            parts.pop()  # `a[::]` is `a[:]`
        present = tuple(part is not None for part in parts)
        return self._node(Kind.SLICE, present, tuple(part for part in parts if part is not None), start)

    def _name(self) -> str:
        word = self.scanner.word()
        if not word or iskeyword(word):
            raise self.scanner.error("expected a name")
        self.scanner.skip_space()
        return word

    def _accept_word(self, word: str) -> bool:
        return self.scanner.peek_word() == word and self.scanner.accept(word)

    def _node(self, kind: Kind, value: Any, children: tuple[Node, ...], position: int) -> Node:
        height = 1 + max((child.height for child in children), default=0)
        if height > MAX_DEPTH + 1:
            raise ToolCallSyntaxError(position, f"nested more than {MAX_DEPTH} levels deep")
        return Node(kind, value, children, position, height)

"""Reads a list of tool calls from text, call by call and argument by argument, so that a text cut short still tells."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any

from itool_pipeline.calls.call_values import function_name, labelled
from itool_pipeline.calls.expression_tree import Kind, Node
from itool_pipeline.calls.expressions import ExpressionParser
from itool_pipeline.calls.scanner import Scanner, ToolCallSyntaxError

_PLAIN_NAME = re.compile(r"[^\W\d]\w*+(?:\.[^\W\d]\w*+)*+")
_OPENING = re.compile(r"[ \t\f\n]*+\(")
_NAME_CHARACTERS = r'[^()\[\]{}=,:"\n]*+'
_BRACKETED_WORDS = r"""\([^()\[\]{}=,:"'\n]*+\)"""
_FREE_NAME = re.compile(rf"{_NAME_CHARACTERS}(?:{_BRACKETED_WORDS}(?={_NAME_CHARACTERS}\(){_NAME_CHARACTERS})*+(?=\()")
_FREE_LABEL = re.compile(r"""([^\s()\[\]{}=,"'<>!*][^()\[\]{}=,"'<>!\n]*+)(=(?!=)|\Z)""")


@dataclass(slots=True)
class BegunCall:
    """A call as far as it has been read: its `(` has been seen, and the end of each of its arguments.

    `closed` says that its `)` has been seen too.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    closed: bool = False


class CallReader:
    """One pass over `[f(a=1), g()]`. What has been read so far is in `begun`, also after an error.

    names   known function names, needed for those that are no dotted Python names
    quirks  read what data sets hold beyond BFCL's grammar (see `tool_calls`)
    free    with quirks: take any text before a `(` as a function name
    """

    def __init__(self, text: str, names: Collection[str] = (), *, quirks: bool = False, free: bool = False) -> None:
        self.scanner = Scanner(text)
        self.begun: list[BegunCall] = []
        self._expressions = ExpressionParser(self.scanner)
        self._quirks = quirks
        self._free = free
        odd = {name for name in names if quirks or not _PLAIN_NAME.fullmatch(name)}
        self._names = sorted(odd, key=len, reverse=True)

    def read(self) -> list[BegunCall]:
        """All calls of the list. Raises ToolCallSyntaxError."""
        self.scanner.expect("[")
        while not self.scanner.accept("]"):
            self._call()
            if not self.scanner.next_is("]"):
                self.scanner.expect(",")
        if not self.scanner.at_end:
            raise self.scanner.error("text after the list of calls")
        return self.begun

    def _call(self) -> None:
        start = self.scanner.position
        name = self._head()
        if name:
            self._arguments(BegunCall(name))
            if self._quirks or self.scanner.at_end or self.scanner.next_is(",", "]"):
                return
            # Not just `f(...)`: an expression that begins like a call, as `f(a=1).g(b=2)`.
            self.begun.pop()
            self.scanner.position = start
        self._expression_call(start)

    def _expression_call(self, start: int) -> None:
        node = self._expressions.expression()
        if self._quirks or node.kind is not Kind.CALL:
            raise ToolCallSyntaxError(start, "no function call", ended=self.scanner.at_end)
        read: list[tuple[str | None, Node]] = list(zip(node.value, node.children[1:], strict=True))
        self.begun.append(BegunCall(function_name(node), labelled(read, self._quirks), closed=True))

    def _head(self) -> str:
        """Read `name(`, or nothing when that is not next."""
        start = self.scanner.position
        for name in self._names:
            if self.scanner.next_is(name):
                self.scanner.position += len(name)
                if self._opening():
                    return name
                self.scanner.position = start
        found = self.scanner.match(_FREE_NAME if self._free else _PLAIN_NAME)
        name = unicodedata.normalize("NFKC", found.group()).strip() if found else ""
        valid = self._free or all(part.isidentifier() and not iskeyword(part) for part in name.split("."))
        if name and valid and self._opening():
            return name
        self.scanner.position = start
        return ""

    def _opening(self) -> bool:
        found = self.scanner.match(_OPENING)
        self.scanner.skip_space()
        return found is not None

    def _arguments(self, call: BegunCall) -> None:
        self.begun.append(call)
        labels: set[str | None] = set()
        index = 0
        while not self.scanner.accept(")"):
            start = self.scanner.position
            label, node = self._expressions.argument(self._label if self._quirks else self._expressions.keyword, labels)
            more = self.scanner.accept(",")
            if not more and not self.scanner.next_is(")"):
                raise self.scanner.error("expected ',' or ')'")
            named = labelled([(label, node)], self._quirks)
            for name, value in named.items():
                key = f"*{index}" if label in (None, "*") else name
                if self._quirks and key in call.arguments:
                    raise ToolCallSyntaxError(start, f"the argument {key!r} is given twice")
                call.arguments[key] = value
            index += 1
        call.closed = True

    def _label(self) -> str:
        """Read any `label=`, also one that is no Python name (`from=`, `sort-by=`)."""
        start = self.scanner.position
        found = self.scanner.match(_FREE_LABEL)
        if not found:
            return ""
        if not found.group(2):
            raise self.scanner.error("expected a value")
        self.scanner.skip_space()
        label = found.group(1).strip()
        if label in ("*", "**"):
            self.scanner.position = start
            return ""
        return label

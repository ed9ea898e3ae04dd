"""Calls as a Python list, `[f(a=1, b="x"), g()]`: the syntax of BFCL's prompts and of ToolACE."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from itool_pipeline.calls.python_text import STRING_BODY
from itool_pipeline.calls.reading import WRAPPING, finished_calls, looks_like_call, opening_bracket, parse_response
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError

_BRACKETED_CALL = re.compile(r"\[\w+\(.*\)\]")
_OPEN, _CLOSE, _BLANK = "([{", ")]}", " \t\f\n\r"
_CALL_DEPTH = 2
"""Bracket depth inside `[f(`: the list and the argument list. Anything deeper is a nested value."""


@dataclass(frozen=True, slots=True)
class PythonCalls:
    """The syntax of Python-style lists. Its rooms are `reading`, `rendering`, and the fragments here."""

    name: str = "python"
    tokens: tuple[str, ...] = ()
    has_positional: bool = True
    form: str = "as a list: [name(parameter=value, ...), ...]"

    def render_calls(self, calls: Iterable[Call]) -> str:
        return render_calls(calls)

    def read_response(self, text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
        return parse_response(text, names, quirks=quirks)

    def finished_calls(
        self, partial: str, names: Collection[str] = (), *, quirks: bool = False
    ) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
        return finished_calls(partial, names, quirks=quirks)

    def has_begun_call(self, text: str) -> bool:
        return looks_like_call(text)

    def may_begin_call(self, text: str, names: Collection[str] = ()) -> bool:
        bare = text.lstrip(WRAPPING)
        return bare.replace(".", "_").isidentifier() or any(name.startswith(bare) for name in names)

    def has_words_beside_calls(self, text: str) -> bool:
        return False

    def is_plain_text(self, text: str) -> bool:
        return bool(text.strip()) and not text.lstrip(WRAPPING).startswith("[") and not looks_like_call(text)

    def part_with_calls(self, text: str) -> str:
        found = _BRACKETED_CALL.search(text)
        return found.group() if found else text

    def fragment_ends(self, text: str, terminators: str) -> Iterator[int]:
        """In plain text every terminator ends a fragment. In calls only one between arguments or calls does: none in a
        string, a comment or a nested value, and no period, which in a call stands inside numbers and names.

        A response is cut as calls from its `[` on; or, where it opens with a name and a `(`, from that `(` on. What
        comes before the `(` was plain text when it came, and is cut as such: `f.g(a=1.5)` into `f.` and `g(a=1.5)`.
        """
        begin, depth = len(text) - len(text.lstrip(WRAPPING)), 0
        if not text.startswith("[", begin):
            bracket = opening_bracket(text)
            # Without the list's own bracket we stand inside it already.
            begin, depth = (len(text) if bracket is None else bracket), 1
        yield from (i + 1 for i, char in enumerate(text[:begin]) if char in terminators)
        yield from _ends_in_calls(text, begin, depth, terminators)


PYTHON_CALLS = PythonCalls()


def _ends_in_calls(text: str, position: int, depth: int, terminators: str) -> Iterator[int]:
    in_name = False
    while position < len(text):
        char = text[position]
        # A function name of a data set may hold an apostrophe or a hash: outside of arguments, none opens a string,
        # and a comment begins only where no name has.
        if char == "#" and not (in_name and depth < _CALL_DEPTH):
            position = _line_end(text, position)
            continue
        if char in STRING_BODY and depth >= _CALL_DEPTH:
            position = _string_end(text, position)
            continue
        outer = depth
        depth += (char in _OPEN) - (char in _CLOSE)
        position += 1
        bracket = char in _OPEN + _CLOSE
        if char not in _BLANK:
            in_name = not bracket and char != ","
        # Of a bracket the lower of both sides counts: the `(` and `)` of a call stand in the list, those of a value
        # in an argument.
        if char in terminators and char != "." and min(outer, depth) < _CALL_DEPTH + (not bracket):
            yield position


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _string_end(text: str, start: int) -> int:
    """The offset behind the string that opens at `start`: behind its quotes, or where its line or the text ends."""
    quote = text[start : start + 3] if text[start : start + 3] in STRING_BODY else text[start]
    body = STRING_BODY[quote].match(text, start + len(quote))
    end = body.end() if body else len(text)
    return end + len(quote) if text.startswith(quote, end) else end

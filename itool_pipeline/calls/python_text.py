"""Cuts the text of calls into arguments, in linear time, without reading what an argument says.

Nothing here knows what an argument means. It knows strings, comments and brackets, so that a comma in a string ends no
argument, and it counts how deeply an argument is nested, so that Python's own parser is never given one that could
exhaust its stack. Patterns are possessive, so no character is tried twice by one of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from itool_pipeline.calls.types import ToolCallSyntaxError

MAX_NESTING = 60
"""Levels that an argument may have: brackets and operators around its innermost value."""

MAX_LENGTH = 200_000
"""Characters that one argument may have."""

BLANK = re.compile(r"(?:[ \t\f\n\r]|\\\n|#[^\n]*+)*+")
"""What Python skips within brackets, comments and continued lines included."""

PIECE = re.compile(
    r"""
    (?P<blank>[ \t\f\n]++|\\\n|\#[^\n]*+)
    | (?P<prefix>(?:[rR][bB]?|[bB][rR]?|[uU]|[fF][rR]?|[rR][fF])?)(?P<quote>"{3}|'{3}|"|')
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<comma>,)
    | (?P<operator>(?:and|or|not|in|is|if|for|async|lambda|await|yield|from)\b)
    | (?P<word>[0-9][\w.]*+|\w++)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
"""One piece of text. A string's body is no part of it: see `STRING_BODY`. A number keeps its point: `1.5` is a word."""

STRING_BODY = {
    '"': re.compile(r'(?:[^"\\\n]|\\.|\\\Z)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\\n]|\\.|\\\Z)*+", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]|\\.|\\\Z|"(?!""))*+', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|\\\Z|'(?!''))*+", re.DOTALL),
}
"""What may stand between quotes, by the quote. A backslash at the very end is the start of an escape."""

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_CODE_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class ArgumentSlice:
    """The text of one argument, between the offsets `start` and `end`.

    `finished` says that the `,` or bracket behind it has been seen. In a text that is not, a string that was still
    open is emptied and closed: what it will say cannot make the argument wrong.
    """

    text: str
    start: int
    end: int
    finished: bool


class _Nesting:
    """How deeply a place in an argument is nested: one level for each bracket, and one for each operator beside it.

    Within a bracket, what has been counted since its last comma counts on, as `1+1+1` and `f()()()` nest too. So the
    depth is never less than that of Python's syntax tree, whose height is what exhausts a stack.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._closing: list[str] = []
        self._since_comma = [0]

    @property
    def closing(self) -> str:
        """The bracket that is waited for; '' when none is open."""
        return self._closing[-1] if self._closing else ""

    def add(self, levels: int) -> None:
        self._since_comma[-1] += levels
        self.depth += levels

    def open(self, bracket: str) -> None:
        self.add(1)
        self._closing.append(_CLOSING[bracket])
        self._since_comma.append(0)

    def close(self) -> None:
        self._closing.pop()
        self.depth -= self._since_comma.pop()

    def comma(self) -> None:
        self.depth -= self._since_comma[-1]
        self._since_comma[-1] = 0


class TextScanner:
    """A position in a text. `steps` counts readings and the characters read, so that a test can show linear time."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        self.position = 0
        self.steps = 0
        for forbidden in re.finditer("[\x00\ud800-\udfff]", self.text):
            raise ToolCallSyntaxError(forbidden.start(), "a null byte or half a surrogate pair")

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def error(self, reason: str) -> ToolCallSyntaxError:
        """An error here, which more text can mend if the text ends here, or in the first half of a continued line."""
        rest = self.text[self.position : self.position + 2]
        return ToolCallSyntaxError(self.position, reason, ended=rest in ("", "\\"))

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here, or nothing."""
        found = pattern.match(self.text, self.position)
        self.steps += 1
        if found:
            self.steps += found.end() - self.position
            self.position = found.end()
        return found

    def next_is(self, *symbols: str) -> bool:
        self.steps += 1
        return self.text.startswith(symbols, self.position)

    def accept(self, symbol: str) -> bool:
        """Read `symbol` and the blank after it, if it is next."""
        if not self.next_is(symbol):
            return False
        self.position += len(symbol)
        self.match(BLANK)
        return True

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise self.error(f"expected {symbol!r}")

    def argument(self, closing: str) -> ArgumentSlice:
        """Read up to the `,` or the `closing` bracket that ends an argument, or up to the end of the text.

        Without a `closing` bracket only a `,` and the end of the text end it.

        Raises ToolCallSyntaxError for brackets that do not match, a line break in a string, and for what is longer
        than MAX_LENGTH or nested more deeply than MAX_NESTING.
        """
        start = self.position
        nesting = _Nesting()
        while piece := self.match(PIECE):
            kind, symbol = piece.lastgroup, piece.group()
            if kind == "close" and symbol != (expected := nesting.closing or closing):
                raise ToolCallSyntaxError(piece.start(), f"found {symbol!r}, expected {expected or 'no bracket'}")
            if kind in ("comma", "close") and not nesting.closing:
                self.position = piece.start()
                return self._slice(start, self.text[start : self.position], finished=True)
            if kind == "quote":
                body = self._string_body(piece)
                if body is None:
                    closed = self.text[start : piece.end()] + piece.group("quote")
                    return self._slice(start, closed, finished=False)
                # The inside of an f-string is code again, no deeper than it has words and signs.
                nesting.add(len(_CODE_WORDS.findall(body)) if "f" in piece.group("prefix").lower() else 0)
            elif kind == "open":
                nesting.open(symbol)
            elif kind == "close":
                nesting.close()
            elif kind == "comma":
                nesting.comma()
            elif symbol == "\\" and not self.at_end:
                raise ToolCallSyntaxError(piece.start(), "a backslash before something else than a line break")
            elif kind in ("operator", "sign"):
                nesting.add(1)
            if nesting.depth > MAX_NESTING:
                raise ToolCallSyntaxError(piece.start(), f"nested more than {MAX_NESTING} levels deep")
        return self._slice(start, self.text[start:], finished=False)

    def _string_body(self, opening: re.Match[str]) -> str | None:
        """What is between the quotes, of a string whose opening has been read; None when the text ends in it."""
        quote = opening.group("quote")
        body = self.match(STRING_BODY[quote])
        if body is None or self.at_end:
            return None
        if not self.next_is(quote):
            raise ToolCallSyntaxError(self.position, f"the string begun at {opening.start()} is not closed")
        self.position += len(quote)
        return body.group()

    def _slice(self, start: int, text: str, finished: bool) -> ArgumentSlice:
        if len(text) > MAX_LENGTH:
            raise ToolCallSyntaxError(start, f"an argument of more than {MAX_LENGTH} characters")
        return ArgumentSlice(text, start, self.position, finished)

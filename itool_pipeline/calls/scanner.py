"""Reads Python's lexical elements (names, numbers, strings, space) out of a text, in linear time and without `eval`.

Patterns are possessive, so no character is tried twice by one of them, and a failure ends the scan.
"""

from __future__ import annotations

import re
import unicodedata

_SPACE = re.compile(r"(?:[ \t\f\n]|\\\n|#[^\n]*+)*+")
_WORD = re.compile(r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*+")
_NUMBER_GOES_ON = re.compile(r"[A-Za-z0-9_\u0080-\U0010ffff]++(?:[-+.]?\Z)?+")
_DIGITS = r"[0-9](?:_?[0-9])*+"
_NUMBER = re.compile(
    r"0[xX](?:_?[0-9a-fA-F])++|0[oO](?:_?[0-7])++|0[bB](?:_?[01])++"
    rf"|(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?+)?+)(?:[eE][+-]?+{_DIGITS})?+[jJ]?+"
)
_OPENING = re.compile(r"""([rR][bB]?|[bB][rR]?|[uU]|[fF][rR]?|[rR][fF])?("{3}|'{3}|"|')""")
_BODIES = {
    '"': re.compile(r'(?:[^"\\\n]|\\.)*+', re.DOTALL),
    "'": re.compile(r"(?:[^'\\\n]|\\.)*+", re.DOTALL),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*+", re.DOTALL),
}
_ESCAPE = re.compile(
    r"\\(?:(\n)|([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|N\{([^}]*)\}|(.))", re.DOTALL
)
_SIMPLE_ESCAPES = {
    **{c: c for c in "\\'\""},
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
}
_MAX_DIGITS = 3500  # so that a number in any base stays within the 4,300 decimal digits that Python prints


class ToolCallSyntaxError(ValueError):
    """The text is no list of tool calls. `position` is a character offset, `reason` says what is wrong there."""

    def __init__(self, position: int, reason: str, *, ended: bool = False) -> None:
        super().__init__(f"{reason} (at character {position})")
        self.position = position
        self.reason = reason
        self.ended = ended
        """True when the text merely stopped: more text could still make it right."""


class FormattedString(str):
    """The source of an f-string: it has no value before it is run."""

    __slots__ = ()


class Scanner:
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
        return ToolCallSyntaxError(self.position, reason, ended=self.at_end)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Read what the pattern matches here, or nothing."""
        found = pattern.match(self.text, self.position)
        self.steps += 1
        if found:
            self.steps += found.end() - self.position
            self.position = found.end()
        return found

    def skip_space(self) -> None:
        self.match(_SPACE)

    def next_is(self, *symbols: str) -> bool:
        self.steps += 1
        return self.text.startswith(symbols, self.position)

    def accept(self, symbol: str) -> bool:
        """Read `symbol` and the space after it, if it is next."""
        if not self.next_is(symbol):
            return False
        self.position += len(symbol)
        self.skip_space()
        return True

    def expect(self, symbol: str) -> None:
        if not self.accept(symbol):
            raise self.error(f"expected {symbol!r}")

    def word(self) -> str:
        """Read an identifier or keyword (normalised as Python does), or '' when none is next."""
        start = self.position
        found = self.match(_WORD)
        if not found:
            return ""
        name = found.group() if found.group().isascii() else unicodedata.normalize("NFKC", found.group())
        if not name.isidentifier():
            raise ToolCallSyntaxError(start, f"{found.group()!r} is no name")
        return name

    def peek_word(self) -> str:
        start = self.position
        found = self.match(_WORD)
        self.position = start
        return found.group() if found else ""

    def number(self) -> int | float | complex | None:
        start = self.position
        found = self.match(_NUMBER)
        if not found:
            return None
        if self.match(_NUMBER_GOES_ON):
            raise ToolCallSyntaxError(start, "a number runs into a name", ended=self.at_end)
        return _number(found.group(), start)

    def string(self) -> str | bytes | None:
        """Read one string literal; a `FormattedString` for an f-string; None when none is next."""
        start = self.position
        opening = self.match(_OPENING)
        if not opening:
            return None
        prefix, quote = (opening.group(1) or "").lower(), opening.group(2)
        body = self.match(_BODIES[quote])
        if not self.next_is(quote):
            # A lone backslash at the very end is the start of an escape, not a broken string.
            ended = self.at_end or (self.position == len(self.text) - 1 and self.next_is("\\"))
            raise ToolCallSyntaxError(self.position, f"the string begun at {start} is not closed", ended=ended)
        self.position += len(quote)
        content = body.group() if body else ""
        if "b" in prefix:
            return _bytes(content, prefix, start)
        value = _string(content, prefix, start)
        return FormattedString(self.text[start : self.position]) if "f" in prefix else value


def _number(source: str, start: int) -> int | float | complex:
    digits = source.replace("_", "")
    if len(digits) > _MAX_DIGITS:
        raise ToolCallSyntaxError(start, f"a number of more than {_MAX_DIGITS} digits")
    if digits[:2].lower() in ("0x", "0o", "0b"):
        return int(digits, 0)
    if digits[-1] in "jJ":
        return complex(digits)
    if not digits.isdigit():
        return float(digits)
    if digits[0] == "0" and digits.strip("0"):
        raise ToolCallSyntaxError(start, "a decimal number with a leading zero")
    return int(digits)


def _string(content: str, prefix: str, start: int) -> str:
    if "r" in prefix or "\\" not in content:
        return content
    return _ESCAPE.sub(lambda escape: _unescaped(escape, start), content)


def _bytes(content: str, prefix: str, start: int) -> bytes:
    if not content.isascii():
        raise ToolCallSyntaxError(start, "a bytes literal with a character beyond ASCII")
    if "r" in prefix or "\\" not in content:
        return content.encode()
    return _ESCAPE.sub(lambda escape: _unescaped(escape, start, in_bytes=True), content).encode("latin-1")


def _unescaped(escape: re.Match[str], start: int, in_bytes: bool = False) -> str:
    line_break, octal, hexadecimal, short, long, name, other = escape.groups()
    if line_break:
        return ""
    if octal:
        return chr(int(octal, 8) & 0xFF if in_bytes else int(octal, 8))
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if in_bytes and other is None:
        return escape.group()
    if short or long:
        code = int(short or long, 16)
        if code > 0x10FFFF:
            raise ToolCallSyntaxError(start, f"{escape.group()!r} is no character")
        return chr(code)
    if name is not None:
        return _named_character(name, start)
    if other == "x" or (other in "uUN" and not in_bytes):
        raise ToolCallSyntaxError(start, f"a broken \\{other} escape")
    return _SIMPLE_ESCAPES.get(other, escape.group())


def _named_character(name: str, start: int) -> str:
    try:
        character = unicodedata.lookup(name)
    except KeyError:
        character = ""
    if len(character) != 1:
        raise ToolCallSyntaxError(start, f"no character is named {name!r}")
    return character

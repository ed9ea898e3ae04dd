"""Calls as JSON objects, `{"name": "f", "arguments": {"a": 1}}`: what Hermes' and Llama's ways of writing share.

Whole values are read by Python's own JSON parser, as the official decoders do. What it cannot do, reading a text that
stops anywhere, needs the ends of strings and brackets only, and these `scan_call` finds in one pass: each piece of the
text is looked at once. Nothing here is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.python_text import MAX_LENGTH, MAX_NESTING
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError

BLANK = re.compile(r"[ \t\n\r]*+")
"""What JSON skips."""

_STRING_BODY = re.compile(r'"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*+')
_WORD = re.compile(r"[-+.\w]++")
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class NameRead:
    """The name's string is closed, at the offset `end`."""

    name: str
    end: int


@dataclass(frozen=True, slots=True)
class ArgumentRead:
    """An argument has ended: `end` is behind the `,` or `}` behind it, and `text` its value as it is written."""

    name: str
    text: str
    start: int
    end: int
    last: bool


@dataclass(frozen=True, slots=True)
class ArgumentsClosed:
    """The arguments' own object is closed, at the offset `end`."""

    end: int


@dataclass(frozen=True, slots=True)
class CallClosed:
    """The call's object is closed, at the offset `end`."""

    end: int


CallEvent = NameRead | ArgumentRead | ArgumentsClosed | CallClosed


def scan_call(text: str, position: int, arguments_key: str) -> Iterator[CallEvent]:
    """What stands for certain of the call whose `{` is at `position`, in order, up to its `}`.

    Raises ToolCallSyntaxError where the text is no such object, `ended` where it merely stops.
    """
    return _CallScanner(text, position, arguments_key).events()


class _CallScanner:
    """One pass over one call. The values of arguments are cut out, and not looked into.

    An error stands where it shows: what comes before it was no error.
    """

    def __init__(self, text: str, position: int, arguments_key: str) -> None:
        self._text = text
        self._position = position
        self._key = arguments_key

    def events(self) -> Iterator[CallEvent]:
        self._mark("{")
        seen: set[str] = set()
        while True:
            key = self._new_key(seen)
            if key == "name":
                yield NameRead(self._string(), self._position)
            elif key == self._key:
                yield from self._arguments()
            else:
                start, end = self._skip_value()
                value_of(self._text[start:end], end)
            if self._mark(",}") == "}":
                yield CallClosed(self._position)
                return

    def _arguments(self) -> Iterator[CallEvent]:
        self._mark("{")
        seen: set[str] = set()
        closed = self._next() == "}" and bool(self._mark("}"))
        while not closed:
            name = self._new_key(seen)
            start, end = self._skip_value()
            closed = self._mark(",}") == "}"
            yield ArgumentRead(name, self._text[start:end], start, self._position, closed)
        yield ArgumentsClosed(self._position)

    def _new_key(self, seen: set[str]) -> str:
        """A key and the `:` behind it."""
        key = self._string()
        if key in seen:
            raise ToolCallSyntaxError(self._position, f"{key!r} is given twice")
        seen.add(key)
        self._mark(":")
        return key

    def _skip_value(self) -> tuple[int, int]:
        """Pass over a value; where it begins and ends."""
        self._next()
        start = self._position
        closing: list[str] = []
        while True:
            piece = self._next()
            if piece in _CLOSING:
                closing.append(_CLOSING[piece])
                self._position += 1
                if len(closing) > MAX_NESTING:
                    raise ToolCallSyntaxError(self._position, f"nested more than {MAX_NESTING} levels deep")
            elif closing and piece in "}],:":
                self._position += 1
                if piece in "}]" and closing.pop() != piece:
                    raise ToolCallSyntaxError(self._position, f"found {piece!r} where no such bracket is open")
            elif piece == '"':
                self._string_text()
            elif found := _WORD.match(self._text, self._position):
                self._position = found.end()
            else:
                raise ToolCallSyntaxError(self._position, "expected a value")
            if self._position - start > MAX_LENGTH:
                raise ToolCallSyntaxError(self._position, f"an argument of more than {MAX_LENGTH} characters")
            if not closing:
                return start, self._position

    def _string(self) -> str:
        if self._next() != '"':
            raise ToolCallSyntaxError(self._position, "expected a string")
        piece = self._string_text()
        return str(value_of(piece, self._position))

    def _string_text(self) -> str:
        """The string that begins here, with its quotes."""
        start = self._position
        body = _STRING_BODY.match(self._text, start)
        assert body is not None
        rest = self._text[body.end() : body.end() + 2]
        if not rest.startswith('"'):
            raise ToolCallSyntaxError(body.end(), "a string is not closed", ended=rest in ("", "\\"))
        self._position = body.end() + 1
        return self._text[start : self._position]

    def _mark(self, allowed: str) -> str:
        piece = self._next()
        if piece not in allowed:
            raise ToolCallSyntaxError(self._position, f"expected one of {allowed}")
        self._position += 1
        return piece

    def _next(self) -> str:
        """The character that comes next; it stays. Raises ToolCallSyntaxError at the end of the text."""
        blank = BLANK.match(self._text, self._position)
        assert blank is not None
        self._position = blank.end()
        if self._position >= len(self._text):
            raise ToolCallSyntaxError(self._position, "the text ends within a call", ended=True)
        return self._text[self._position]


def value_of(text: str, position: int = 0) -> Any:
    """The value of a JSON text. Raises ToolCallSyntaxError for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolCallSyntaxError(position, f"no JSON: {error}") from None


def call_of(item: Any, arguments_key: str) -> Call:
    """The call that an object stands for, as the official decoders take it: other keys do not matter.

    Raises ToolCallSyntaxError.
    """
    if not isinstance(item, Mapping) or "name" not in item or arguments_key not in item:
        raise ToolCallSyntaxError(0, f"no object with `name` and `{arguments_key}`")
    name, arguments = item["name"], item[arguments_key]
    if isinstance(name, list | dict) or not isinstance(arguments, Mapping):
        raise ToolCallSyntaxError(0, f"`name` is no text, or `{arguments_key}` no object")
    return Call(str(name), dict(arguments))


def begin_call(
    text: str, position: int, arguments_key: str, begun: list[BegunCall]
) -> tuple[int, ToolCallSyntaxError | None]:
    """Read the call at `position` as far as it goes, into `begun` once its name is certain.

    Returns the offset behind its `}`, or where the error that ended the reading is.
    """
    call = BegunCall("")
    named = False
    try:
        for event in scan_call(text, position, arguments_key):
            match event:
                case NameRead(name=name):
                    call.name, named = name, True
                    begun.append(call)
                case ArgumentRead(name=name, text=value, start=start):
                    call.arguments[name] = value_of(value, start)
                case ArgumentsClosed():
                    call.closed = True
                case CallClosed(end=end):
                    if not named or not call.closed:
                        raise ToolCallSyntaxError(position, f"no `name` or no `{arguments_key}`")
                    return end, None
    except ToolCallSyntaxError as error:
        return error.position, error
    raise AssertionError("a scan ends with the call or an error")


def call_ends(text: str, position: int, arguments_key: str, terminators: str) -> Generator[int, None, tuple[int, bool]]:
    """Where fragments end in the call at `position`. Returns the offset behind it, or where its reading ended, and
    whether it is whole.

    Behind the `,` and the `}` of the arguments' own object; and behind the call's own `}` unless that follows at once.
    `)` among the terminators stands for what closes the arguments of a call, in JSON a `}`.
    """
    comma, closing = "," in terminators, ")" in terminators or "}" in terminators
    closed_at = 0
    try:
        for event in scan_call(text, position, arguments_key):
            match event:
                case ArgumentRead(end=end, last=False) if comma:
                    yield end
                case ArgumentsClosed(end=closed_at) if closing:
                    yield closed_at
                case CallClosed(end=end):
                    if closing and (not closed_at or text[closed_at : end - 1].strip()):
                        yield end
                    return end, True
    except ToolCallSyntaxError as error:
        return (len(text) if error.ended else error.position), False
    raise AssertionError("a scan ends with the call or an error")


def json_text(value: Any, marks: tuple[str, ...]) -> str:
    """A value as JSON, as chat templates write it; the marks of a syntax cannot stand in it as they are.

    Raises TypeError for a value that JSON does not have.
    """
    _require_json(value)
    text = json.dumps(value, ensure_ascii=False)
    for mark in marks:
        text = text.replace(mark, json_mark(mark))
    return text


def json_mark(mark: str) -> str:
    """A syntax's mark as it stands in JSON's strings, where it is text."""
    return f"\\u{ord(mark[0]):04x}{mark[1:]}"


def _require_json(value: Any) -> None:
    match value:
        case str() | bool() | int() | float() | None:
            return
        case list() | tuple():
            for item in value:
                _require_json(item)
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"{type(key).__name__} is no key in JSON")
                _require_json(item)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON")

"""Calls as bare JSON, as Llama 3 writes them: `{"name": "f", "parameters": {"a": 1}}`, several parted by `; `.

`<|python_tag|>` may stand before a call, and is passed over; so is a list's bracket, whose calls a `,` parts. Words
beside the calls are an error.

BFCL's decoder for Llama 3.1 hands a response without a `;` to Python's `eval`, and parts one with a `;` wherever it
stands. So it takes what is no JSON (`True`, single quotes) and refuses what is (`true`, `null`, a `;` in a text, for a
single call). Scores are the official decoder's; here, for what the search rewards, JSON is read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from itool_pipeline.calls.json_calls import BLANK, begin_call, call_ends, call_of, json_text, value_of
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError

TAG = "<|python_tag|>"
_ARGUMENTS = "parameters"
_SPACE = re.compile(rf"(?:[ \t\n\r]|{re.escape(TAG)})*+")
"""What may stand before and between calls."""
_BEGUN = re.compile(rf"{_SPACE.pattern}(?:\[[ \t\n\r]*+)?\{{[ \t\n\r]*+(?:[\"'}}]|\Z)|{_SPACE.pattern}\[?\Z")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Llama3JsonCalls:
    """The syntax of bare JSON objects."""

    name: str = "llama3_json"
    tokens: tuple[str, ...] = (TAG,)
    has_positional: bool = False
    form: str = 'as JSON objects, parted by semicolons: {"name": "...", "parameters": {"parameter": value, ...}}; {...}'

    def render_calls(self, calls: Iterable[Call]) -> str:
        return "; ".join(_rendered(call) for call in calls)

    def read_response(self, text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
        return tuple(call_of(item, _ARGUMENTS) for item in _items(text.replace(TAG, "").strip()))

    def finished_calls(
        self, partial: str, names: Collection[str] = (), *, quirks: bool = False
    ) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
        begun: list[BegunCall] = []
        position = _behind_space(partial, 0)
        listed = partial.startswith("[", position)
        position += listed
        while True:
            position, error = begin_call(partial, _behind_space(partial, position), _ARGUMENTS, begun)
            if error is not None:
                return begun, error
            position = _behind_space(partial, position)
            if listed and partial.startswith("]", position):
                rest = _behind_space(partial, position + 1)
                whole = rest == len(partial)
                return begun, None if whole else ToolCallSyntaxError(rest, "text after the list of calls")
            if not listed and position == len(partial):
                return begun, None
            if not partial.startswith("," if listed else ";", position):
                ended = position == len(partial)
                return begun, ToolCallSyntaxError(position, "text after a call", ended=ended)
            position += 1

    def has_begun_call(self, text: str) -> bool:
        bare = text.strip()
        return bool(bare) and (bare.startswith(TAG) or TAG.startswith(bare) or _BEGUN.match(text) is not None)

    def may_begin_call(self, text: str, names: Collection[str] = ()) -> bool:
        return False

    def has_words_beside_calls(self, text: str) -> bool:
        return False

    def is_plain_text(self, text: str) -> bool:
        bare = text.strip()
        return bool(bare) and bare[0] not in "{[" and not self.has_begun_call(text)

    def part_with_calls(self, text: str) -> str:
        start, end = text.find("{"), text.rfind("}")
        return text[start : end + 1] if 0 <= start < end else text

    def fragment_ends(self, text: str, terminators: str) -> Iterator[int]:
        """Where a response opens as calls, beside their objects and in words every terminator ends a fragment; in an
        object those of `call_ends` do, and none behind a place where it has broken.
        """
        position = 0
        begin = _behind_space(text, 0)
        begin = _behind_space(text, begin + 1) if text.startswith("[", begin) else begin
        while text.startswith("{", begin):
            yield from (i + 1 for i in range(position, begin) if text[i] in terminators)
            position, whole = yield from call_ends(text, begin, _ARGUMENTS, terminators)
            if not whole:
                return
            begin = _behind_space(text, position)
            begin = _behind_space(text, begin + 1) if text.startswith((";", ","), begin) else begin
        yield from (i + 1 for i in range(position, len(text)) if text[i] in terminators)


LLAMA3_JSON_CALLS = Llama3JsonCalls()


def _rendered(call: Call) -> str:
    name, arguments = (json_text(value, (TAG,)) for value in (call.name, dict(call.arguments)))
    return f'{{"name": {name}, "{_ARGUMENTS}": {arguments}}}'


def _items(text: str) -> list[Any]:
    """The objects of a response without tags and blanks around it. Raises ToolCallSyntaxError."""
    if not text:
        return []
    if text.startswith("["):
        found = value_of(text)
        assert isinstance(found, list)
        return found
    items, position = [], 0
    while True:
        try:
            item, position = _DECODER.raw_decode(text, _behind_blank(text, position))
        except (ValueError, RecursionError) as error:
            raise ToolCallSyntaxError(position, f"no JSON: {error}") from None
        items.append(item)
        position = _behind_blank(text, position)
        if position == len(text):
            return items
        if text[position] != ";":
            raise ToolCallSyntaxError(position, "text after a call")
        position += 1


def _behind_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()


def _behind_blank(text: str, position: int) -> int:
    found = BLANK.match(text, position)
    assert found is not None
    return found.end()

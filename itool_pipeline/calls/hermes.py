"""Calls as JSON between tags, as Hermes and Qwen write them: `{"name": "f", "arguments": {"a": 1}}`.

Each stands on a line of its own, between lines with `<tool_call>` and `</tool_call>`; several follow each other by a
line break. A whole response is read as BFCL's decoder for these models reads it: what stands beside the tags is passed
over, and so is a block that is no JSON. With quirks a block may have other blanks around its object, and one that
cannot be read is an error, as it is to the servers that offer this syntax.

A response that goes on is read more strictly: where a block has broken, nothing mends it, though the official decoder
would look for another block behind it; and a key that is given twice is broken too, where JSON takes the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from itool_pipeline.calls.json_calls import BLANK, begin_call, call_ends, call_of, json_text, value_of
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_ARGUMENTS = "arguments"


@dataclass(frozen=True, slots=True)
class HermesCalls:
    """The syntax of JSON objects between `<tool_call>` tags."""

    name: str = "hermes"
    tokens: tuple[str, ...] = (OPEN, CLOSE)
    has_positional: bool = False
    form: str = (
        f'each as JSON between tags: {OPEN}\n{{"name": "...", "arguments": {{"parameter": value, ...}}}}\n{CLOSE}'
    )

    def render_calls(self, calls: Iterable[Call]) -> str:
        return "\n".join(_rendered(call) for call in calls)

    def read_response(self, text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
        items = []
        for start, end in _blocks(text, "" if quirks else "\n"):
            try:
                items.append(value_of(text[start:end], start))
            except ToolCallSyntaxError:
                if quirks:
                    raise
        if quirks and text.count(OPEN) != len(items):
            raise ToolCallSyntaxError(text.rfind(OPEN), f"no {CLOSE} behind", ended=True)
        return tuple(call_of(item, _ARGUMENTS) for item in items)

    def finished_calls(
        self, partial: str, names: Collection[str] = (), *, quirks: bool = False
    ) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
        begun: list[BegunCall] = []
        position = 0
        while (start := partial.find(OPEN, position)) >= 0:
            position, error = _read_block(partial, start + len(OPEN), begun, quirks)
            if error is not None:
                return begun, error
        return begun, None if begun else ToolCallSyntaxError(len(partial), "no call", ended=True)

    def has_begun_call(self, text: str) -> bool:
        bare = text.strip()
        return OPEN in text or (bool(bare) and OPEN.startswith(bare))

    def may_begin_call(self, text: str, names: Collection[str] = ()) -> bool:
        return False

    def has_words_beside_calls(self, text: str) -> bool:
        outside, position = [], 0
        while (start := text.find(OPEN, position)) >= 0:
            outside.append(text[position:start])
            end = text.find(CLOSE, start)
            if end < 0:
                return any(map(str.strip, outside))
            position = end + len(CLOSE)
        rest = text[position:].strip()
        return any(map(str.strip, outside)) or not OPEN.startswith(rest)

    def is_plain_text(self, text: str) -> bool:
        return bool(text.strip()) and not self.has_begun_call(text)

    def part_with_calls(self, text: str) -> str:
        return text

    def fragment_ends(self, text: str, terminators: str) -> Iterator[int]:
        """Beside the tags every terminator ends a fragment; between them those of `call_ends`."""
        position = 0
        while position < len(text):
            start = text.find(OPEN, position)
            begin = len(text) if start < 0 else start + len(OPEN)
            yield from (i + 1 for i in range(position, begin) if text[i] in terminators)
            reached, _ = yield from call_ends(text, begin, _ARGUMENTS, terminators)
            end = text.find(CLOSE, reached)
            position = len(text) if end < 0 else end + len(CLOSE)


HERMES_CALLS = HermesCalls()


def _rendered(call: Call) -> str:
    name, arguments = (json_text(value, (OPEN, CLOSE)) for value in (call.name, dict(call.arguments)))
    return f'{OPEN}\n{{"name": {name}, "{_ARGUMENTS}": {arguments}}}\n{CLOSE}'


def _blocks(text: str, around: str) -> Iterator[tuple[int, int]]:
    """Where the contents of the blocks begin and end; `around` stands between a tag and these."""
    position, opening, closing = 0, OPEN + around, around + CLOSE
    while (start := text.find(opening, position)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            return
        yield start + len(opening), end
        position = end + len(closing)


def _read_block(
    text: str, position: int, begun: list[BegunCall], quirks: bool
) -> tuple[int, ToolCallSyntaxError | None]:
    """Read from behind a tag to behind the one that closes it; where the reading ended, and why."""
    if not quirks and not text.startswith("\n", position):
        return position, ToolCallSyntaxError(position, "expected a line break", ended=position >= len(text))
    position, error = begin_call(text, position, _ARGUMENTS, begun)
    if error is not None:
        return position, error
    blank = BLANK.match(text, position)
    assert blank is not None
    rest = text[blank.end() : blank.end() + len(CLOSE)]
    if rest == CLOSE and (quirks or blank.group().endswith("\n")):
        return blank.end() + len(CLOSE), None
    ended = CLOSE.startswith(rest) and blank.end() + len(rest) == len(text)
    return blank.end(), ToolCallSyntaxError(blank.end(), f"expected {CLOSE}", ended=ended)

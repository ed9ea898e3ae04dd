"""Fragments of a response: the actions of the search (Section 3.2, "termination characters").

A response is cut after every termination character, and nowhere else, so joining the fragments gives the response
back. In a tool call the cut is made only between arguments and calls: never inside a quoted string or a nested
value, and never at a period, which in a call stands inside numbers and names. In plain text every termination
character cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "'\""
_LENIENT = " \n\t`"
"""What may stand before the list of calls: the checkers' decoder strips it."""
_CALL_DEPTH = 2
"""Bracket depth inside `[f(`: the list and the argument list. Anything deeper is a nested value."""


@dataclass(frozen=True, slots=True)
class FragmentRule:
    """Where fragments end. `terminators` are single characters, e.g. `,.)`."""

    terminators: str = ",.)"

    def ends(self, text: str) -> Iterator[int]:
        """Offsets just behind each character of `text` that ends a fragment. One pass, linear time.

        Depends only on what precedes an offset, so it may be asked of an unfinished response.
        """
        if not text.lstrip(_LENIENT).startswith("["):
            yield from (i + 1 for i, char in enumerate(text) if char in self.terminators)
            return
        depth, quote, escaped = 0, "", False
        for i, char in enumerate(text):
            if quote:
                if escaped:
                    escaped = False
                elif char == "\\":
                    escaped = True
                elif char == quote:
                    quote = ""
                continue
            if char in _QUOTES and depth >= _CALL_DEPTH:  # before its arguments, a name may hold an apostrophe
                quote = char
                continue
            outer = depth
            depth += (char in _OPEN) - (char in _CLOSE)
            if (
                char in self.terminators
                and char != "."
                and min(outer, depth) < _CALL_DEPTH + (char not in _OPEN + _CLOSE)
            ):
                yield i + 1

    def ends_within(self, text: str, start: int) -> bool:
        """Whether a fragment ends at an offset in (start, len(text)]."""
        return any(end > start for end in self.ends(text))

    def split(self, text: str) -> list[str]:
        """The fragments of `text`; `"".join(split(text)) == text`. Empty text has none."""
        bounds = [0, *self.ends(text)]
        if bounds[-1] != len(text):
            bounds.append(len(text))
        return [text[a:b] for a, b in pairwise(bounds)]

    def split_tokens(self, pieces: Sequence[str]) -> list[range]:
        """Ranges of token indices, one for each fragment, given each token's own piece of the text.

        A token that holds a termination character in its middle belongs whole to the fragment it ends.
        """
        text, ranges, start = "", [], 0
        ends = set(self.ends("".join(pieces)))
        for i, piece in enumerate(pieces):
            before = len(text)
            text += piece
            if any(end in ends for end in range(before + 1, len(text) + 1)):
                ranges.append(range(start, i + 1))
                start = i + 1
        if start < len(pieces):
            ranges.append(range(start, len(pieces)))
        return ranges

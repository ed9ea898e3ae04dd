"""Fragments of a response: the actions of the search (Section 3.2, "termination characters").

A response is cut after termination characters, and nowhere else, so joining the fragments gives the response back.
Where one of them ends a fragment is for the syntax of the calls to say: between arguments and calls, but never inside
a string or a nested value. In plain text every termination character cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax


@dataclass(frozen=True, slots=True)
class FragmentRule:
    """Where fragments end. `terminators` are single characters, e.g. `,.)`."""

    terminators: str = ",.)"
    syntax: CallSyntax = PYTHON_CALLS

    def ends(self, text: str) -> Iterator[int]:
        """Offsets just behind each character of `text` that ends a fragment. One pass, linear time.

        Depends only on what precedes an offset, so it may be asked of an unfinished response.
        """
        return self.syntax.fragment_ends(text, self.terminators)

    def ends_within(self, text: str, start: int) -> bool:
        """Whether a fragment ends at an offset in (start, len(text)]."""
        return any(end > start for end in self.ends(text))

    def split(self, text: str) -> list[str]:
        """The fragments of `text`; `"".join(split(text)) == text`. Empty text has none."""
        bounds = [0, *self.ends(text)]
        if bounds[-1] != len(text):
            bounds.append(len(text))
        return [text[a:b] for a, b in pairwise(bounds)]

"""What the search asks about a response: is it right, and how far has it come (the outcome O of Eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.types import Example


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a complete response. `error` is one sentence, empty when correct."""

    correct: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a response that may stop anywhere stands to what is expected.

    value   how much of it agrees, in [-1, 1]; 0 for none
    flawed  whether something of it is wrong for good, so that no continuation makes a right answer of it
    """

    value: float
    flawed: bool


class Judge(Protocol):
    """Who decides on responses, as the search sees it. The same example and text get the same answer."""

    @property
    def syntax(self) -> CallSyntax:
        """How the responses write calls."""
        ...

    def verdict(self, example: Example, response: str) -> Verdict:
        """Whether a complete response is right."""
        ...

    def agreement(self, example: Example, partial: str) -> Agreement:
        """How far a response that may stop anywhere has come."""
        ...

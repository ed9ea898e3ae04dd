"""The nouns that every layer shares: a message, an example (Section 2.1: a query q, tools T, a response y)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from itool_pipeline.calls.types import GoldCall


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the context. `role` is `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str


class Expectation(StrEnum):
    """What a right answer does."""

    CALLS = "calls"  # the gold calls
    ANY_CALL = "any_call"  # some call, whichever
    NO_CALL = "no_call"  # plain text


@dataclass(frozen=True, slots=True)
class Example:
    """One tool-use question with its gold answer.

    id        unique within the data set
    source    the data set, e.g. `bfcl` or `toolace`
    category  the data set's own category, e.g. `live_multiple`
    messages  the context, ending with the turn to be answered; the tool list is not in it
    tools     candidate tools: dicts with `name`, `description`, `parameters` (JSON Schema, or BFCL's variant of it)
    response  the gold response as text, `[f(a=1), g(b="x")]` or plain text
    gold      the calls expected in the response; empty when the right answer calls no tool
    group     examples with the same group are near-duplicates and never cross a split
    language  `python`, `java` or `javascript`: the syntax of argument values
    expects   what the right answer does; where it says the gold calls and there are none, no call

    Raises ValueError when there are gold calls and `expects` says something else.
    """

    id: str
    source: str
    category: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    response: str
    gold: tuple[GoldCall, ...]
    group: str
    language: str = "python"
    expects: Expectation = Expectation.CALLS

    def __post_init__(self) -> None:
        if self.gold and self.expects is not Expectation.CALLS:
            raise ValueError(f"{self.id}: has gold calls, but expects {self.expects}")
        if not self.gold and self.expects is Expectation.CALLS:
            object.__setattr__(self, "expects", Expectation.NO_CALL)

    @property
    def question(self) -> str:
        """The content of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


Progress = Callable[[int, int], None]
"""Called with (done, total) as long work goes on."""


def no_progress(done: int, total: int) -> None:
    """The default: report nothing."""


Metrics = Callable[[str, int, Mapping[str, float]], None]
"""Called with (kind, step, figure → value) as they come: see `tracking.writers.MetricWriter`."""


def no_metrics(kind: str, step: int, values: Mapping[str, float]) -> None:
    """The default: tell nobody."""

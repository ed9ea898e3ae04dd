"""A benchmark's own command line, unmodified, as a second opinion on our verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.errors import ActionableError

Result = list[list[str]] | str
"""The answers of each turn, step by step; or one answer, or what ended a conversation: BFCL's layout of results."""


class ConformanceError(ActionableError):
    """The official command line could not be set up or did not score what it was given."""


@dataclass(frozen=True, slots=True)
class JudgedCase:
    """An output with our verdict on it. `error_type` is empty when correct."""

    id: str
    category: str
    result: Result
    correct: bool
    error_type: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A case on which the two disagree: `correct`, or the error's type, of either."""

    id: str
    ours: str
    official: str


@dataclass(frozen=True, slots=True)
class Conformance:
    """One category: how many verdicts were compared, which differ, and what was left out, with the reason."""

    category: str
    compared: int
    different: tuple[Difference, ...]
    left_out: tuple[tuple[str, str], ...]


class SecondOpinion(Protocol):
    """What `python -m itool_pipeline conformance` asks of a benchmark that has a command line of its own."""

    def judged_case(self, row: Mapping[str, Any]) -> JudgedCase:
        """The case of a row of `cases`."""
        ...

    def judge_answers(
        self, answers: Iterable[tuple[str, Any]], downloads: Path, syntax: CallSyntax
    ) -> list[JudgedCase]:
        """Our verdicts on (case id, result), whose calls are in the syntax.

        Raises ConformanceError for a case that the benchmark does not have.
        """
        ...

    def compare_verdicts(
        self, cases: Sequence[JudgedCase], downloads: Path, environment: Path, syntax: CallSyntax
    ) -> list[Conformance]:
        """Its verdicts beside ours. The environment of the command line is made where it is not there."""
        ...

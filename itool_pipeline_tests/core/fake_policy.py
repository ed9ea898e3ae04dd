"""Policies without a model: one that reads its probabilities from a table, one that makes them from a hash.

Token ids stand for pieces of text, so that each answer can be checked against the text it was asked for.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.policy import Fragment, Policy, PolicyInRounds, SampleRequest, ScoreRequest, T, Task
from itool_pipeline.core.reward import GradePrompt, SearchProblem
from itool_pipeline.core.types import Example, Message

END = 0
"""The end-of-turn token."""

AFTER = (-10, -11)
OPTIONS = (-1, -2, -3, -4)
UNRELATED = -0.625
"""Log-probability of each scored token that is not an option: nothing may depend on it."""

Grade = tuple[float, float, float, float]
"""Masses on A, B, C, D; they need not sum to one."""

_PIECES: list[str] = ["", ""]
"""By id; END has no text, nor has the first half of a multi-byte character."""


def token(piece: str) -> int:
    """The id of a piece of text; never END."""
    if piece not in _PIECES:
        _PIECES.append(piece)
    return _PIECES.index(piece, END + 1)


def decode(ids: Sequence[int]) -> str:
    return "".join(_PIECES[i] for i in ids)


def log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


@dataclass(frozen=True, slots=True)
class Move:
    """One fragment: a piece and a probability for each token; `finished` adds the end-of-turn token's probability."""

    pieces: tuple[str, ...]
    probs: tuple[float, ...]
    finished: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def name(self) -> str:
        """The text, with `$` behind it when it ends the response."""
        return self.text + "$" * self.finished

    def fragment(self) -> Fragment:
        ids = (*map(token, self.pieces), *((END,) if self.finished else ()))
        return Fragment(ids, self.text, tuple(map(log, self.probs)), self.finished)


def move(*pieces: str, p: float | tuple[float, ...]) -> Move:
    """A fragment that goes on; a single `p` is the probability of each token."""
    return Move(pieces, p if isinstance(p, tuple) else (p,) * len(pieces))


def last(*pieces: str, p: float | tuple[float, ...]) -> Move:
    """A fragment that ends the response."""
    return Move(pieces, p if isinstance(p, tuple) else (p,) * (len(pieces) + 1), finished=True)


class Recorded(PolicyInRounds):
    """Keeps what it was asked, and checks that each request is one of this module's problems."""

    def __init__(self) -> None:
        self.sampled: list[SampleRequest] = []
        self.scored: list[ScoreRequest] = []

    def moves(self, request: SampleRequest) -> Sequence[Move]:
        raise NotImplementedError

    def masses(self, before: tuple[int, ...], text: str) -> Grade:
        raise NotImplementedError

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        self.sampled += requests
        for request in requests:
            assert decode(request.response) == request.response_text
            assert END not in request.response, "asked to go on after the end"
        return [[m.fragment() for m in self.moves(request)] for request in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        self.scored += requests
        return [[self._row(request.prompt, c) for c in request.continuations] for request in requests]

    def _row(self, before: tuple[int, ...], continuation: tuple[int, ...]) -> tuple[float, ...]:
        *candidate, first, second, option = continuation
        assert (first, second) == AFTER
        assert END not in candidate, "the end-of-turn token would end the evaluation prompt too"
        masses = self.masses(before, decode(candidate))
        return (*(UNRELATED,) * (len(continuation) - 1), log(masses[OPTIONS.index(option)]))


def result_of(policy: Policy, task: Task[T]) -> T:
    """What the task ends with when `policy` serves it alone."""
    ((_, result),) = policy.serve([task])
    return result


class TablePolicy(Recorded):
    """Fragments by the response so far, in the table's order, again from its beginning when it has fewer than asked.

    grades  masses on the options by response text; `default` where the table has none
    """

    def __init__(
        self,
        table: Mapping[str, Sequence[Move]],
        grades: Mapping[str, Grade] | None = None,
        default: Grade = (1.0, 0.0, 1.0, 0.0),
    ) -> None:
        super().__init__()
        self.table, self.grades, self.default = table, grades or {}, default

    def moves(self, request: SampleRequest) -> Sequence[Move]:
        found = self.table.get(request.response_text, ())
        return [found[i % len(found)] for i in range(request.count)] if found else []

    def masses(self, before: tuple[int, ...], text: str) -> Grade:
        return self.grades.get(text, self.default)


RANDOM_MOVES: tuple[tuple[tuple[str, ...], bool], ...] = (
    (("[f(", "a=1,"), False),
    (("[f(", "a=", "7,"), False),
    (("b=2)",), False),
    (("b", "=3)"), False),
    (("]",), True),
    (("]",), False),
    ((), True),
    (("No", " tool", "."), False),
)


class RandomPolicy(Recorded):
    """Every probability is a hash of the policy's seed, the prompt and the response so far.

    `count` fragments are drawn with replacement by the request's seed alone.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def _hashed(self, *names: object) -> random.Random:
        digest = hashlib.sha256(repr((self.seed, *names)).encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))

    def moves(self, request: SampleRequest) -> Sequence[Move]:
        hashed = self._hashed("moves", request.prompt, request.response_text)
        options = [
            Move(pieces, tuple(hashed.uniform(0.01, 1.0) for _ in range(len(pieces) + finished)), finished)
            for pieces, finished in RANDOM_MOVES
        ]
        weights = [hashed.random() ** 2 for _ in options]
        return random.Random(request.seed).choices(options, weights, k=request.count)

    def masses(self, before: tuple[int, ...], text: str) -> Grade:
        hashed = self._hashed("grade", before, text)
        return hashed.random(), hashed.random(), hashed.random(), hashed.random()


_F = {
    "name": "f",
    "description": "",
    "parameters": {
        "type": "dict",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def call_problem(name: str = "call") -> SearchProblem:
    """The right answer is `[f(a=1,b=2)]`."""
    gold = GoldCall("f", {"a": (1,), "b": (2,)})
    return _problem(name, "simple_python", (gold,), "[f(a=1,b=2)]")


def text_problem(name: str = "text") -> SearchProblem:
    """The right answer calls nothing."""
    return _problem(name, "irrelevance", (), "No tool fits.")


def _problem(name: str, category: str, gold: tuple[GoldCall, ...], response: str) -> SearchProblem:
    example = Example(name, "bfcl", category, (Message("user", name),), (_F,), response, gold, name)
    own = tuple(name.encode())
    return SearchProblem(example, (-100, *own), GradePrompt((-200, *own), AFTER, OPTIONS))

"""Requests while they are served: which columns of their slot to compute next, and what to read of the logits there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from itool_pipeline.core.policy import Fragment, GradeRequest, Request, SampleRequest, ScoreRequest
from itool_pipeline.engines.branches import Branch, uniform_numbers
from itool_pipeline.engines.drawing import Drawing
from itool_pipeline.engines.prompt_slots import PromptSlot


class UnderWay(ABC):
    """A request in its slot. In each pass: `plan`, then what `reads` and `draws` ask for, then `take`."""

    def __init__(self, prompt: tuple[int, ...]) -> None:
        self.prompt = prompt
        self.done = False
        self._slot: PromptSlot | None = None

    @property
    def seated(self) -> bool:
        """Whether it has a slot."""
        return self._slot is not None

    @property
    def slot(self) -> PromptSlot:
        assert self._slot is not None
        return self._slot

    def enter(self, slot: PromptSlot) -> None:
        """Take the slot."""
        self._slot = slot
        slot.users.append(self)

    def leave(self) -> None:
        """Need it no more."""
        self.slot.users.remove(self)
        self._slot = None

    @abstractmethod
    def own_columns(self) -> int:
        """At most so many columns of paths it needs at a time."""

    @abstractmethod
    def next_columns(self) -> int:
        """At most so many new columns the next pass needs."""

    @abstractmethod
    def pins(self) -> Sequence[int]:
        """The last columns of the paths that it still needs."""

    @abstractmethod
    def plan(self) -> dict[int, int]:
        """Column → token, to be computed in the next pass."""

    def reads(self) -> Sequence[tuple[int, int]]:
        """(column, token): after which columns the log-probability of which tokens is wanted."""
        return ()

    def draws(self) -> Sequence[tuple[int, Branch]]:
        """(column, branch): after which columns a token is drawn for which branches."""
        return ()

    @abstractmethod
    def take(self, values: Sequence[float]) -> None:
        """The pass is computed: `values` are what `reads` asked for, and the branches of `draws` have their tokens."""

    @abstractmethod
    def answer(self) -> Any:
        """What the request gets, once it is `done`."""


class Sampled(UnderWay):
    """Branches that grow by a token a pass; those that drew the same tokens so far share their columns."""

    def __init__(self, request: SampleRequest, drawing: Drawing) -> None:
        super().__init__(request.prompt)
        self._request, self._drawing = request, drawing
        limit = drawing.sampling.max_fragment_tokens
        self._branches = [Branch(request, row, drawing.tail) for row in uniform_numbers(request, limit)]
        self._at = [-1] * request.count
        self._step = 0
        self._limit = limit

    def own_columns(self) -> int:
        # The last token of a fragment is drawn and never read.
        return 1 + len(self._request.response) + self._request.count * (self._limit - 1)

    def next_columns(self) -> int:
        return len(self._going()) if self._step else 1 + len(self._request.response)

    def pins(self) -> Sequence[int]:
        return [self._at[i] for i in self._going()] if self._step else []

    def plan(self) -> dict[int, int]:
        if not self._step:
            # The last token's output is wanted, so its column is computed even when it is there.
            path = (self.slot.prompt[-1], *self._request.response)
            planned, column = _path_columns(self.slot, path)
            planned[column] = path[-1]
            self._at = [column] * len(self._branches)
            return planned
        planned = {}
        for i in self._going():
            token = self._branches[i].last_token
            self._at[i] = self.slot.add(self._at[i], token)
            planned[self._at[i]] = token
        return planned

    def draws(self) -> Sequence[tuple[int, Branch]]:
        return [(self._at[i], self._branches[i]) for i in self._going()]

    def take(self, values: Sequence[float]) -> None:
        self._step += 1
        self.done = not self._going()

    def answer(self) -> list[Fragment]:
        return [branch.fragment(self._drawing.end_token) for branch in self._branches]

    def _going(self) -> list[int]:
        return [i for i, branch in enumerate(self._branches) if not branch.done]


class Graded(UnderWay):
    """All candidates in one pass. Their paths are kept; the closing words are not."""

    def __init__(self, request: GradeRequest) -> None:
        super().__init__(request.prompt)
        self._request = request
        self._ends: list[int] = []
        self._closing: list[int] = []
        self._values: list[tuple[float, ...]] = []

    def own_columns(self) -> int:
        candidates, after = self._request.candidates, self._request.after
        return 1 + sum(map(len, candidates)) + len(candidates) * len(after)

    next_columns = own_columns

    def pins(self) -> Sequence[int]:
        return self._ends

    def plan(self) -> dict[int, int]:
        planned: dict[int, int] = {}
        for candidate in dict.fromkeys(self._request.candidates):
            path = (self.slot.prompt[-1], *candidate)
            own, column = _path_columns(self.slot, path)
            planned |= own
            for token in self._request.after:
                column = self.slot.add(column, token, keep=False)
                planned[column] = token
                self._closing.append(column)
            if not self._request.after:
                planned[column] = path[-1]
            self._ends.append(column)
        return planned

    def reads(self) -> Sequence[tuple[int, int]]:
        return [(end, option) for end in self._ends for option in self._request.options]

    def take(self, values: Sequence[float]) -> None:
        count = len(self._request.options)
        self._values = [tuple(values[i : i + count]) for i in range(0, len(values), count)]
        self.slot.drop(self._closing)
        self._ends, self._closing, self.done = [], [], True

    def answer(self) -> list[tuple[float, ...]]:
        found = dict(zip(dict.fromkeys(self._request.candidates), self._values, strict=True))
        return [found[candidate] for candidate in self._request.candidates]


class Scored(UnderWay):
    """All continuations in one pass; those that begin alike share columns."""

    def __init__(self, request: ScoreRequest) -> None:
        super().__init__(request.prompt)
        self._request = request
        self._reads: list[tuple[int, int]] = []
        self._values: Sequence[float] = ()

    def own_columns(self) -> int:
        # A continuation's last token predicts nothing that is asked for.
        return 1 + sum(max(len(continuation) - 1, 0) for continuation in self._request.continuations)

    next_columns = own_columns

    def pins(self) -> Sequence[int]:
        return [column for column, _ in self._reads]

    def plan(self) -> dict[int, int]:
        planned: dict[int, int] = {}
        for continuation in self._request.continuations:
            column = -1
            for token, following in zip((self.slot.prompt[-1], *continuation), continuation, strict=False):
                column = self.slot.add(column, token)
                planned[column] = token  # its output is wanted, so it is computed even when it is there
                self._reads.append((column, following))
        return planned

    def reads(self) -> Sequence[tuple[int, int]]:
        return self._reads

    def take(self, values: Sequence[float]) -> None:
        self._values, self._reads, self.done = values, [], True

    def answer(self) -> list[tuple[float, ...]]:
        left = iter(self._values)
        return [tuple(next(left) for _ in continuation) for continuation in self._request.continuations]


def request_under_way(request: Request, drawing: Drawing) -> UnderWay:
    """The request, not yet begun. Raises ValueError for an empty prompt."""
    if not request.prompt:
        raise ValueError("a prompt must have at least one token")
    if isinstance(request, SampleRequest):
        return Sampled(request, drawing)
    return Graded(request) if isinstance(request, GradeRequest) else Scored(request)


def _path_columns(slot: PromptSlot, path: Sequence[int]) -> tuple[dict[int, int], int]:
    """The columns of a path from the prompt's end that are not there yet, with their tokens; and its last column."""
    column, known = slot.longest_path(path)
    planned = {}
    for token in path[known:]:
        column = slot.add(column, token)
        planned[column] = token
    return planned, column

"""What is asked of the policy π (Section 3.2): sample fragments, grade candidates, score continuations.

Whoever asks is a task: a generator that yields its requests, gets the answers, and ends with its result. One tree is
a task, and so is one example of the replay buffer. A policy serves many tasks side by side in whatever order suits it,
so no task knows of the others, and none waits for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Ask for `count` fragments after prompt + response. The answer is a list of `Fragment`, duplicates included.

    prompt         token ids; the same tuple for all requests of a tree, so that engines can keep its KV
    response       token ids of the response so far
    response_text  the same as text: the concatenation of the fragments' texts
    seed           all randomness of this request comes from it
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    response_text: str
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """One sampled fragment; it ends at a termination character, at the end of the turn or at the longest length.

    token_ids  what was sampled, the end-of-turn token included when it was sampled
    text       its text, without the end-of-turn token
    logprobs   natural log-probability of each token under the policy at temperature 1
    finished   whether the end-of-turn token was sampled: the response is complete
    """

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finished: bool


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """Ask how likely each of `options` is after prompt + candidate + after, for each candidate (Eq. 7).

    The answer is a list with a tuple for each candidate: the natural log-probability of each option among all tokens.

    prompt      the evaluation prompt up to where the candidate goes; the same tuple for all requests of a tree
    candidates  responses so far, as token ids; they may be empty
    after       the words that close the evaluation prompt
    options     tokens of which one comes next
    """

    prompt: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Ask for the log-probability of each token of each continuation, given the prompt and what precedes it.

    The answer is a list with a tuple for each continuation: one natural log-probability for each token.
    """

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]


Request: TypeAlias = SampleRequest | GradeRequest | ScoreRequest

Task: TypeAlias = Generator[tuple[Request, ...], list[Any], T]
"""Yields one or more requests at once, is sent their answers in the same order, and returns its result."""


class Policy(ABC):
    """A language model as the search sees it."""

    @abstractmethod
    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        """Answer what the tasks ask until all have ended; yields (number of the task, its result) as they end.

        Tasks are taken from `tasks` one by one, when there is room for them. Raises ValueError for an empty prompt.
        """

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        """The fragments of each request."""
        return self._answers(requests)

    def grade(self, requests: Sequence[GradeRequest]) -> list[list[tuple[float, ...]]]:
        """For each request and candidate the log-probability of each option."""
        return self._answers(requests)

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        """For each request and continuation the log-probability of each token."""
        return self._answers(requests)

    def _answers(self, requests: Sequence[Request]) -> list[Any]:
        found = dict(self.serve(_asking(request) for request in requests))
        return [found[number] for number in range(len(requests))]


def _asking(request: Request) -> Task[Any]:
    (answer,) = yield (request,)
    return answer


class PolicyInRounds(Policy):
    """A policy that answers in batches: in each round all that the tasks wait for, kind by kind."""

    @abstractmethod
    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]: ...

    @abstractmethod
    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]: ...

    def grade(self, requests: Sequence[GradeRequest]) -> list[list[tuple[float, ...]]]:
        """By the scores of the whole continuations, each with one of the options at its end."""
        rows = self.score([_with_options(request) for request in requests])
        answers = []
        for request, row in zip(requests, rows, strict=True):
            ends, count = [scores[-1] for scores in row], len(request.options)
            answers.append([tuple(ends[i : i + count]) for i in range(0, len(ends), count)])
        return answers

    def serve(self, tasks: Iterable[Task[T]]) -> Iterator[tuple[int, T]]:
        """All tasks at once, in step with each other."""
        waiting: dict[int, tuple[Task[T], tuple[Request, ...]]] = {}
        going: list[tuple[int, Task[T], list[Any] | None]] = [(number, task, None) for number, task in enumerate(tasks)]
        while going:
            for number, task, answers in going:
                try:
                    waiting[number] = task, next(task) if answers is None else task.send(answers)
                except StopIteration as end:
                    yield number, end.value
            asked = [request for _, requests in waiting.values() for request in requests]
            answered = iter(self._round(asked))
            going = [(n, task, [next(answered) for _ in requests]) for n, (task, requests) in waiting.items()]
            waiting.clear()

    def _round(self, requests: Sequence[Request]) -> list[Any]:
        """The answer to each request, in their order."""
        answered: dict[type, Iterator[Any]] = {}
        for kind, ask in ((SampleRequest, self.sample), (GradeRequest, self.grade), (ScoreRequest, self.score)):
            asked: list[Any] = [request for request in requests if isinstance(request, kind)]
            if asked:
                answered[kind] = iter(ask(asked))
        return [next(answered[type(request)]) for request in requests]


def _with_options(request: GradeRequest) -> ScoreRequest:
    ends = ((*candidate, *request.after, option) for candidate in request.candidates for option in request.options)
    return ScoreRequest(request.prompt, tuple(ends))

"""What the search asks of the policy π (Section 3.2): sample fragments, and score continuations, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Ask for `count` fragments after prompt + response.

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
    """One sampled fragment.

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
class ScoreRequest:
    """Ask for the log-probability of each token of each continuation, given the prompt and what precedes it."""

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]


class Policy(Protocol):
    """A language model as the search sees it. Answers come in the order of the requests."""

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        """`count` fragments for each request, duplicates included, ending at the termination characters."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        """For each request and continuation, one natural log-probability for each token."""
        ...

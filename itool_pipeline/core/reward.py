"""Reward of a state: outcome correctness plus self-evaluation, R = O + C (Eq. 6 and 7)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from itool_pipeline.config import (
    ExactGrades,
    NoGrades,
    OutcomeConfig,
    SampledGrades,
    SearchBase,
    SelfEvaluationConfig,
)
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.policy import Fragment, GradeRequest, Task
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.types import Example, Expectation


@dataclass(frozen=True, slots=True)
class GradePrompt:
    """The evaluation prompt as token ids: `before` + candidate + `after`, then one of `options` (A, B, C, D)."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    options: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SearchProblem:
    """One tree to search: an example with its prompts as token ids.

    gold  the fragments of the gold answer, the last with its end; without log-probabilities. Empty where none guides
    """

    example: Example
    prompt: tuple[int, ...]
    grade: GradePrompt
    gold: tuple[Fragment, ...] = ()


@dataclass(frozen=True, slots=True)
class ResponseState:
    """A response so far. `finished`: ended by the policy. `truncated`: as long as a response may get."""

    problem: SearchProblem
    token_ids: tuple[int, ...] = ()
    text: str = ""
    finished: bool = False
    truncated: bool = False

    @property
    def terminal(self) -> bool:
        """A complete response, or one that exceeds the maximum length (Section 3.2)."""
        return self.finished or self.truncated


@dataclass(frozen=True, slots=True)
class Reward:
    """R(s) = outcome + self_evaluation.

    correct  the judge's verdict at a terminal state, else None
    flawed   whether something of the response is wrong for good
    """

    outcome: float
    self_evaluation: float
    correct: bool | None
    flawed: bool = False

    @property
    def total(self) -> float:
        return self.outcome + self.self_evaluation


class Outcome(NamedTuple):
    """O(s), with `correct` and `flawed` as in `Reward`."""

    value: float
    correct: bool | None
    flawed: bool


def outcome_of(state: ResponseState, judge: Judge, settings: OutcomeConfig) -> Outcome:
    """O(s): the judge's verdict at a terminal state; before it, a potential that follows the gold answer.

    Three things are stricter than a benchmark's verdict, because the policy learns from them. A truncated response is
    wrong. Where no call is right, so is only plain text: BFCL also takes silence, and lists that do not decode. And
    words beside calls are wrong, which BFCL passes over where calls stand between tags.
    """
    example = state.problem.example
    if not state.terminal:
        so_far = judge.agreement(example, state.text)
        return Outcome(settings.progress * so_far.value, None, so_far.flawed)
    correct = state.finished and judge.verdict(example, state.text).correct
    if correct and example.expects is Expectation.NO_CALL:
        correct = judge.syntax.is_plain_text(state.text)
    elif correct:
        correct = not judge.syntax.has_words_beside_calls(state.text)
    return Outcome(settings.correct if correct else settings.wrong, correct, not correct)


def expected_grade(logprobs: Sequence[float], weights: Sequence[float]) -> float:
    """C(s) of Eq. 7: the weighted mean over the options, their probabilities renormalised to sum to one."""
    masses = _masses(logprobs)
    return math.fsum(m * w for m, w in zip(masses, weights, strict=True)) / math.fsum(masses)


def sampled_grade(logprobs: Sequence[float], weights: Sequence[float], samples: int, seed: int) -> float:
    """C(s) as App. B.1 estimates it: the mean weight of `samples` options drawn by their renormalised probabilities.

    That is the distribution of the model's answers once all that are no option are rejected.
    """
    # The four log-probabilities tell the whole distribution, so nothing is sampled from the model itself.
    drawn = random.Random(seed).choices(weights, _masses(logprobs), k=samples)
    return math.fsum(drawn) / samples


def _masses(logprobs: Sequence[float]) -> list[float]:
    """Probabilities of the options up to a common factor, the largest 1."""
    # Options may be unlikely beside all other tokens (e^-1000): their ratios survive, their probabilities would not.
    top = max(logprobs)
    return [math.exp(p - top) for p in logprobs]


def self_evaluations(
    states: Sequence[ResponseState], settings: SelfEvaluationConfig, *, seed: int = 0
) -> Task[list[float]]:
    """C of each state of one problem (Eq. 7); all travel in one request and share the evaluation prompt.

    What is drawn for a state depends on `seed`, its problem and its tokens alone, not on the states beside it.
    """
    if isinstance(settings, NoGrades) or not states:
        return [0.0] * len(states)
    grade = states[0].problem.grade
    # The end-of-turn token would end the evaluation prompt too.
    candidates = tuple(state.token_ids[:-1] if state.finished else state.token_ids for state in states)
    (rows,) = yield (GradeRequest(grade.before, candidates, grade.after, grade.options),)
    return [_grade(state, row, settings, seed) for state, row in zip(states, rows, strict=True)]


def _grade(state: ResponseState, logprobs: Sequence[float], settings: ExactGrades | SampledGrades, seed: int) -> float:
    if isinstance(settings, ExactGrades):
        return expected_grade(logprobs, settings.weights)
    own_seed = derive_seed(seed, "grade", state.problem.example.id, *state.token_ids)
    return sampled_grade(logprobs, settings.weights, settings.samples, own_seed)


def rewards_of(
    states: Sequence[ResponseState], judge: Judge, settings: SearchBase, *, seed: int = 0
) -> Task[list[Reward]]:
    """R of each state of one problem, in their order (Eq. 6). `seed` matters to sampled grades only."""
    grades = yield from self_evaluations(states, settings.self_evaluation, seed=seed)
    outcomes = [outcome_of(state, judge, settings.outcome) for state in states]
    return [Reward(o.value, grade, o.correct, o.flawed) for o, grade in zip(outcomes, grades, strict=True)]

"""Eq. 6 and 7 by hand; what is asked of the policy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.config import ExactGrades, MctsConfig, SearchBase
from itool_pipeline.core.reward import (
    GradePrompt,
    ResponseState,
    Reward,
    SearchProblem,
    expected_grade,
    outcome_of,
    rewards_of,
    sampled_grade,
    self_evaluations,
)
from itool_pipeline_tests.core.fake_policy import (
    AFTER,
    END,
    OPTIONS,
    RandomPolicy,
    TablePolicy,
    call_problem,
    log,
    result_of,
    text_problem,
    token,
)
from itool_pipeline_tests.core.settings import DRAWN_GRADES, ONLY_OUTCOME, changed
from itool_pipeline_tests.judges.by_source import JUDGE

WEIGHTS = (1.0, 0.1, -1.0, -2.0)
SHIPPED = MctsConfig()
OUTCOME, GRADES = SHIPPED.outcome, ExactGrades()


def _state(problem: SearchProblem, *pieces: str, finished: bool = False, truncated: bool = False) -> ResponseState:
    ids = (*map(token, pieces), *((END,) if finished else ()))
    return ResponseState(problem, ids, "".join(pieces), finished, truncated)


@pytest.mark.parametrize(
    ("masses", "expected"),
    [
        ((1, 0, 0, 0), 1.0),
        ((0, 1, 0, 0), 0.1),
        ((0, 0, 1, 0), -1.0),
        ((0, 0, 0, 1), -2.0),
        # 0.6 + 0.1 · 0.2 - 0.1 - 2 · 0.1
        ((0.6, 0.2, 0.1, 0.1), 0.32),
        # (1 + 0.1 - 1 - 2)/4
        ((0.25, 0.25, 0.25, 0.25), -0.475),
        # most of the mass elsewhere: (0.003 - 0.001)/0.004
        ((0.003, 0, 0.001, 0), 0.5),
        # no underflow: (1 - 2)/2
        ((1e-300, 0, 0, 1e-300), -0.5),
    ],
)
def test_expected_grade_by_hand(masses: tuple[float, ...], expected: float) -> None:
    assert expected_grade([log(m) for m in masses], WEIGHTS) == pytest.approx(expected, abs=1e-12)


def test_very_unlikely_options_are_still_compared() -> None:
    # e^-1000 and e^-1001: 1/(1 + 1/e) of the first
    share = 1 / (1 + math.exp(-1))
    assert expected_grade([-1000.0, -math.inf, -1001.0, -math.inf], WEIGHTS) == pytest.approx(share - (1 - share))


LOGPROBS = st.lists(st.floats(-30, 0), min_size=4, max_size=4)


@given(LOGPROBS, st.floats(-50, 50))
def test_expected_grade_is_a_mean_that_only_ratios_decide(logprobs: list[float], shift: float) -> None:
    value = expected_grade(logprobs, WEIGHTS)
    assert -2.0 - 1e-9 <= value <= 1.0 + 1e-9
    assert expected_grade([p + shift for p in logprobs], WEIGHTS) == pytest.approx(value, abs=1e-9)
    total = sum(math.exp(p) for p in logprobs)
    by_definition = sum(w * math.exp(p) / total for p, w in zip(logprobs, WEIGHTS, strict=True))
    assert value == pytest.approx(by_definition, abs=1e-9)


def test_outcome_before_the_end_follows_the_gold_answer() -> None:
    # the name f, a = 1, b = 2: three items, half a point for all of them
    def o(text: str) -> float:
        value, correct, flawed = outcome_of(_state(call_problem(), text), JUDGE, OUTCOME)
        assert correct is None
        assert flawed == ("9" in text or "cannot" in text)
        return value

    assert o("") == 0.0
    assert o("[f(") == pytest.approx(0.5 * 1 / 3)
    assert o("[f(a=1,") == pytest.approx(0.5 * 2 / 3)
    assert o("[f(a=1,b=2)") == pytest.approx(0.5)
    assert o("[f(a=1,b=9)") == pytest.approx(0.5 * (2 - 1) / 3)
    assert o("[f(a=8,b=9)") == pytest.approx(0.5 * (1 - 2) / 3)
    assert o("I cannot.") == -0.5


def test_outcome_before_the_end_where_no_call_is_expected() -> None:
    assert outcome_of(_state(text_problem(), "Sorry,"), JUDGE, OUTCOME) == (0.5, None, False)
    for text in ("[f(", "[", "`[Vice", "[prepare_food.get_recipe]", "f("):
        assert outcome_of(_state(text_problem(), text), JUDGE, OUTCOME) == (-0.5, None, True)
    assert outcome_of(_state(text_problem()), JUDGE, OUTCOME) == (0.0, None, False)


@pytest.mark.parametrize(
    ("text", "correct"),
    [("[f(a=1,b=2)]", True), ("[f(b=2,a=1)]", True), ("[f(a=1,b=3)]", False), ("[f(a=1)]", False), ("No.", False)],
)
def test_outcome_at_the_end_is_the_checkers_verdict(text: str, correct: bool) -> None:
    settings = changed(OUTCOME, correct=3.0, wrong=-7.0, progress=100.0)
    value, verdict, flawed = outcome_of(_state(call_problem(), text, finished=True), JUDGE, settings)
    assert verdict is correct
    assert flawed is not correct
    assert value == (3.0 if correct else -7.0)


def test_a_truncated_response_is_wrong_even_if_it_would_be_right() -> None:
    assert outcome_of(_state(call_problem(), "[f(a=1,b=2)]", truncated=True), JUDGE, OUTCOME) == (-1.0, False, True)
    assert outcome_of(_state(text_problem(), "No tool fits.", truncated=True), JUDGE, OUTCOME) == (-1.0, False, True)
    assert outcome_of(_state(text_problem(), "No tool fits.", finished=True), JUDGE, OUTCOME) == (1.0, True, False)


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("I need the city.", True),
        ("", False),  # silence helps nobody, though the checker takes it
        ("  ", False),
        ("[f(", False),  # the checker cannot decode it and takes it for no call
        ("[f(a=1]", False),
        ("[f(a=1)]", False),
        ("[]", False),
        ("[prepare_food.get_recipe]", False),  # a call but for its parentheses
        ("[Vice President John Kasubi, Vice President]", False),
        ("`[", False),
    ],
)
def test_only_plain_text_is_right_where_no_call_is(text: str, correct: bool) -> None:
    assert outcome_of(_state(text_problem(), text, finished=True), JUDGE, OUTCOME) == (
        1.0 if correct else -1.0,
        correct,
        not correct,
    )


def test_progress_scales_the_potential_only() -> None:
    settings = changed(OUTCOME, progress=0.2)
    assert outcome_of(_state(call_problem(), "[f(a=1,b=2)"), JUDGE, settings)[0] == pytest.approx(0.2)
    assert outcome_of(_state(call_problem(), "[f(a=1,b=2)]", finished=True), JUDGE, settings) == (1.0, True, False)


def test_a_reward_is_the_sum_of_both() -> None:
    policy = TablePolicy({}, {"[f(a=1,": (0.6, 0.2, 0.1, 0.1)})
    (found,) = result_of(policy, rewards_of([_state(call_problem(), "[f(", "a=1,")], JUDGE, SHIPPED))
    assert [found.outcome, found.self_evaluation] == pytest.approx([1 / 3, 0.32])
    assert found.total == pytest.approx(1 / 3 + 0.32)
    assert Reward(1.0, -2.0, True).total == -1.0


def test_weights_are_those_of_the_settings() -> None:
    policy = TablePolicy({}, {"x": (0.4, 0.3, 0.2, 0.1)})
    settings = changed(GRADES, weights=(1000.0, 100.0, 10.0, 1.0))
    assert result_of(policy, self_evaluations([_state(text_problem(), "x")], settings)) == [pytest.approx(432.1)]


def test_without_self_evaluation_nothing_is_asked() -> None:
    policy = TablePolicy({})
    states = [_state(text_problem(), "No tool fits.", finished=True), _state(call_problem(), "[f(a=1,")]
    found = result_of(policy, rewards_of(states, JUDGE, changed(SHIPPED, **ONLY_OUTCOME)))
    assert [(r.outcome, r.self_evaluation, r.correct) for r in found] == [
        (1.0, 0.0, True),
        (pytest.approx(1 / 3), 0.0, None),
    ]
    assert policy.scored == []


def test_states_of_one_problem_travel_in_one_request() -> None:
    policy = TablePolicy({}, {"x": (1, 0, 0, 0), "y": (0, 1, 0, 0), "": (0, 0, 1, 0)})
    one, two = text_problem("one"), text_problem("two")
    states = [[_state(one, "x"), _state(one), _state(one, "x", finished=True)], [_state(two, "y")]]
    found = dict(policy.serve(self_evaluations(group, GRADES) for group in states))
    assert found == {0: pytest.approx([1.0, -1.0, 1.0]), 1: pytest.approx([0.1])}

    def four(*ids: int) -> tuple[tuple[int, ...], ...]:
        return tuple((*ids, *AFTER, option) for option in OPTIONS)

    # the end-of-turn token is no part of the candidate
    x, y = token("x"), token("y")
    assert [(r.prompt, r.continuations) for r in policy.scored] == [
        (one.grade.before, four(x) + four() + four(x)),
        (two.grade.before, four(y)),
    ]


def test_problems_with_equal_beginnings_keep_their_own_endings() -> None:
    """Two problems may share what stands before the candidate, and nothing else."""
    asked: list[tuple[int, ...]] = []

    class Letters(TablePolicy):
        def score(self, requests):  # type: ignore[no-untyped-def]
            asked.extend(c for r in requests for c in r.continuations)
            return [
                [(0.0,) * (len(c) - 1) + ((-0.1 if c[-1] in (11, 24) else -math.inf),) for c in r.continuations]
                for r in requests
            ]

    first = replace(text_problem("a"), grade=GradePrompt((1,), (2,), (11, 12, 13, 14)))
    second = replace(text_problem("b"), grade=GradePrompt((1,), (3, 4), (21, 22, 23, 24)))
    found = dict(Letters({}).serve(self_evaluations([_state(problem)], GRADES) for problem in (first, second)))
    assert found == {0: [1.0], 1: [-2.0]}
    assert asked == [(2, o) for o in (11, 12, 13, 14)] + [(3, 4, o) for o in (21, 22, 23, 24)]


def rewards(seed: int, states: list[ResponseState], settings: SearchBase) -> list[Reward]:
    return result_of(RandomPolicy(seed), rewards_of(states, JUDGE, settings, seed=seed))


@given(st.integers(0, 10**6), st.permutations(range(8)))
def test_the_order_of_states_does_not_matter(seed: int, order: list[int]) -> None:
    texts = [("[f(", "a=1,"), ("[f(", "a=7,"), ("No.",), ()]
    states = [_state(call_problem(), *pieces, finished=ended) for pieces in texts for ended in (False, True)]
    alone = [rewards(seed, [state], SHIPPED)[0] for state in states]
    assert rewards(seed, [states[i] for i in order], SHIPPED) == [alone[i] for i in order]


SAMPLED = changed(SHIPPED, **DRAWN_GRADES)
OPTION_MASSES = (0.6, 0.2, 0.1, 0.1)
"""The exact grade is 0.32; one drawn weight has the variance 0.6 · 1 + 0.2 · 0.01 + 0.1 · 1 + 0.1 · 4 - 0.32²."""


def test_sampled_grades_scatter_about_the_exact_one() -> None:
    draws, variance = 4000, 0.9996
    logprobs = [log(m) - 7.0 for m in OPTION_MASSES]  # only ratios count
    for samples in (1, 4):
        found = [sampled_grade(logprobs, WEIGHTS, samples, seed) for seed in range(draws)]
        mean = math.fsum(found) / draws
        # five standard deviations of a mean of draws · samples weights
        assert abs(mean - 0.32) < 5 * math.sqrt(variance / (samples * draws))
        spread = math.fsum((value - mean) ** 2 for value in found) / draws
        assert spread == pytest.approx(variance / samples, rel=0.1)


def test_a_sampled_grade_is_a_mean_of_weights() -> None:
    found = {round(sampled_grade([0.0] * 4, WEIGHTS, 2, seed), 9) for seed in range(500)}
    assert found == {round((a + b) / 2, 9) for a in WEIGHTS for b in WEIGHTS}
    only_b = [log(0), log(0.2), log(0), log(0)]
    assert {round(sampled_grade(only_b, WEIGHTS, 4, seed), 9) for seed in range(20)} == {0.1}


def test_sampled_grades_depend_on_seed_and_state() -> None:
    policy = TablePolicy({}, default=OPTION_MASSES)
    problems = [text_problem(str(i)) for i in range(30)]
    states = [_state(problem, *pieces) for problem in problems for pieces in ((), ("x",), ("x", "y"))]

    def grades(seed: int) -> list[list[float]]:
        tasks = (self_evaluations(states[i : i + 3], SAMPLED.self_evaluation, seed=seed) for i in range(0, 90, 3))
        found = dict(policy.serve(tasks))
        return [found[i] for i in range(30)]

    first = grades(1)
    assert grades(1) == first
    assert grades(2) != first
    by_state = list(zip(*first, strict=True))
    assert by_state[0] != by_state[1] != by_state[2]
    assert all(len(set(values)) > 3 for values in by_state), "every problem draws for itself"


@given(st.integers(0, 10**6), st.permutations(range(8)))
def test_the_order_of_states_does_not_matter_to_sampled_grades(seed: int, order: list[int]) -> None:
    texts = [("[f(", "a=1,"), ("[f(", "a=7,"), ("No.",), ()]
    states = [_state(text_problem(), *pieces, finished=ended) for pieces in texts for ended in (False, True)]
    alone = [rewards(seed, [state], SAMPLED)[0] for state in states]
    assert rewards(seed, [states[i] for i in order], SAMPLED) == [alone[i] for i in order]


def test_no_states_no_rewards() -> None:
    assert result_of(TablePolicy({}), rewards_of([], JUDGE, SHIPPED)) == []

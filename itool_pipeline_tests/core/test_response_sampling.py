"""Responses drawn whole (w/o MCTS, Section 4.3.2): by hand, and against drawing each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.config import SamplingConfig
from itool_pipeline.core.policy import Fragment, SampleRequest
from itool_pipeline.core.response_sampling import draw_mistakes, draw_responses, each_sampled_tree, sample_tree
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.tree import SearchTree
from itool_pipeline_tests.core.fake_policy import (
    Move,
    RandomPolicy,
    TablePolicy,
    call_problem,
    decode,
    last,
    move,
    result_of,
    text_problem,
)
from itool_pipeline_tests.core.settings import DRAWN_GRADES, ONLY_OUTCOME
from itool_pipeline_tests.judges.by_source import JUDGE


def drawing(responses: int, most: int, **over: Any) -> SamplingConfig:
    return SamplingConfig(type="sampling", responses=responses, max_response_tokens=most, **over)


FOUR = drawing(4, 40)
SEEDS = st.integers(0, 10**6)
few = settings(max_examples=60)


class Numbered(TablePolicy):
    """Begins the first response with the first row's beginning, and so on; goes on by the text so far."""

    def __init__(self, rows: list[dict[str, Move]]) -> None:
        super().__init__({text: [m] for row in rows for text, m in row.items() if text})
        self.beginnings = [row[""] for row in rows]
        self.batches: list[int] = []

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        self.batches.append(len(requests))
        answers = super().sample(requests)
        if len(self.batches) > 1:
            return answers
        return [[m.fragment()] for m in self.beginnings]


FIRST = {"": move("[f(", "a=1,", p=0.5), "[f(a=1,": last("b=2)]", p=0.125)}
SECOND = {"": last("No.", p=(0.5, 0.02))}
THIRD = {"": move("[f(", "a=7,", p=0.25), "[f(a=7,": move("b=2)", p=0.25), "[f(a=7,b=2)": last("]", p=0.25)}


def by_hand() -> tuple[SearchTree, Numbered]:
    policy = Numbered([FIRST, SECOND, THIRD, SECOND])
    tree = result_of(policy, sample_tree(call_problem(), JUDGE, drawing(4, 40, **ONLY_OUTCOME), seed=5))
    return tree, policy


def test_a_tree_of_responses_by_hand() -> None:
    tree, policy = by_hand()
    root, right, text, wrong = tree.nodes
    assert root.children == [1, 2, 3]
    assert [n.text for n in tree.nodes] == ["", "[f(a=1,b=2)]", "No.", "[f(a=7,b=2)]"]
    assert all(decode(n.state.token_ids) == n.text == n.state.text for n in tree.nodes)
    assert all(n.fragment is not None and n.fragment.token_ids == n.state.token_ids for n in tree.nodes[1:])
    # per-token geometric means: (1/2 · 1/2 · 1/8 · 1/8)^(1/4); (1/2 · 1/50)^(1/2); 1/4 each
    assert [n.prior for n in tree.nodes] == pytest.approx([1.0, 0.25, 0.1, 0.25])
    assert [n.rewards.correct for n in tree.nodes] == [None, True, False, False]
    # O is 1 or -1, R(root) = 0, so Q = r is the same; "No." was drawn twice
    assert [(n.visits, n.action_value, n.depth) for n in (right, text, wrong)] == [(1, 1, 1), (2, -1, 1), (1, -1, 1)]
    assert (root.visits, root.value) == (4, pytest.approx((1 - 2 - 1) / 4))
    # all four at once, then those that go on
    assert policy.batches == [4, 2, 1]


def mistakes(policy: TablePolicy, problem: SearchProblem, how: SamplingConfig) -> dict[str, int]:
    """How often each wrong text is drawn."""
    return dict(result_of(policy, draw_mistakes(problem, JUDGE, how, lambda _, text: text, seed=5)))


def test_the_mistakes_of_drawn_responses() -> None:
    # one of four is right; a response drawn twice counts twice
    assert mistakes(Numbered([FIRST, SECOND, THIRD, SECOND]), call_problem(), FOUR) == {"No.": 2, "[f(a=7,b=2)]": 1}
    assert mistakes(Numbered([FIRST, FIRST, THIRD]), call_problem(), drawing(3, 40)) == {"[f(a=7,b=2)]": 1}
    # cut off before its end it is wrong, and so is silence
    assert mistakes(Numbered([FIRST, FIRST]), call_problem(), drawing(2, 2)) == {"[f(a=1,": 2}
    assert mistakes(TablePolicy({}), text_problem(), FOUR) == {"": 4}


def test_the_product_form() -> None:
    policy = Numbered([FIRST, SECOND])
    settings = drawing(2, 40, prior="product")
    tree = result_of(policy, sample_tree(call_problem(), JUDGE, settings, seed=5))
    assert [n.prior for n in tree.nodes[1:]] == pytest.approx([0.5 * 0.5 * 0.125 * 0.125, 0.01])


def test_a_response_that_gets_too_long_ends_and_is_wrong() -> None:
    policy = Numbered([{"": move("so", "on,", p=0.5), "soon,": move("on", "on,", p=0.5)}, SECOND])
    tree = result_of(policy, sample_tree(text_problem(), JUDGE, drawing(2, 4), seed=0))
    long = tree.nodes[1]
    assert (long.text, long.state.truncated, long.state.terminal, long.rewards.correct) == (
        "soon,onon,",
        True,
        True,
        False,
    )
    assert policy.batches == [2, 1]


def test_a_policy_that_cannot_go_on() -> None:
    policy = Numbered([{"": move("x,", p=0.5)}, {"": Move((), ())}])
    tree = result_of(policy, sample_tree(text_problem(), JUDGE, drawing(2, 9), seed=0))
    assert [(n.text, n.state.truncated) for n in tree.nodes[1:]] == [("x,", True)]
    silent = result_of(TablePolicy({}), sample_tree(text_problem(), JUDGE, FOUR, seed=0))
    assert len(silent.nodes) == 1
    assert list(each_sampled_tree([], TablePolicy({}), JUDGE, FOUR, seed=0)) == []


def test_progress_counts_responses() -> None:
    seen: list[tuple[int, int]] = []
    policy = Numbered([FIRST, SECOND, THIRD, SECOND])
    result_of(policy, draw_responses(call_problem(), FOUR, seed=0, progress=lambda *at: seen.append(at)))
    assert seen == [(2, 4), (3, 4), (4, 4)]


PROBLEMS = [call_problem("a"), text_problem("b"), call_problem("c")]


def trees(policy_seed: int, seed: int, problems: list[SearchProblem]) -> list[SearchTree]:
    how = drawing(4, 40, **DRAWN_GRADES)
    found = dict(each_sampled_tree(problems, RandomPolicy(policy_seed), JUDGE, how, seed=seed))
    return [found[i] for i in range(len(problems))]


@few
@given(SEEDS, SEEDS, st.permutations(range(3)))
def test_many_at_once_are_the_same_as_one_at_a_time(policy_seed: int, seed: int, order: list[int]) -> None:
    together = trees(policy_seed, seed, [PROBLEMS[i] for i in order])
    assert together == [trees(policy_seed, seed, [PROBLEMS[i]])[0] for i in order]


@few
@given(SEEDS, SEEDS)
def test_what_holds_of_every_tree(policy_seed: int, seed: int) -> None:
    for tree in trees(policy_seed, seed, PROBLEMS):
        root, *responses = tree.nodes
        assert root.visits == sum(n.visits for n in responses) == 4
        assert all(n.state.terminal and n.depth == 1 and n.parent == 0 and not n.children for n in responses)
        assert len({(n.text, n.state.finished) for n in responses}) == len(responses)
        for n in responses:
            assert n.fragment is not None
            assert len(n.fragment.logprobs) == len(n.fragment.token_ids)
            assert n.prior == pytest.approx(math.exp(sum(n.fragment.logprobs) / len(n.fragment.logprobs)))
            assert n.action_value == n.reward == n.rewards.total - root.rewards.total
        assert root.value == pytest.approx(sum(n.visits * n.action_value for n in responses) / 4)


def test_the_responses_of_a_problem_are_drawn_independently() -> None:
    """Over many seeds the first is as often followed by an equal second as by an equal fourth, and not always."""
    drawn = [result_of(RandomPolicy(1), draw_responses(text_problem(), FOUR, seed=seed)) for seed in range(200)]

    def equal(a: int, b: int) -> int:
        return sum(len(group) == 4 and same(group[a], group[b]) for group in drawn)

    def same(one: Fragment, other: Fragment) -> bool:
        return (one.text, one.finished) == (other.text, other.finished)

    assert all(len(group) == 4 for group in drawn)
    counts = [equal(0, 1), equal(0, 3), equal(1, 2)]
    assert max(counts) < 150
    # each count is binomial over 200, with a standard deviation of at most 7.1
    assert max(counts) - min(counts) < 5 * math.sqrt(2) * 7.1

"""A search that the gold answer guides: its next fragment is a child where the path is the answer so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.policy import Fragment, ScoreRequest
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import children_of, search_trees
from itool_pipeline.core.tree import SearchTree
from itool_pipeline_tests.core.fake_policy import (
    OPTIONS,
    Move,
    RandomPolicy,
    TablePolicy,
    call_problem,
    last,
    log,
    move,
    text_problem,
)
from itool_pipeline_tests.core.settings import ONLY_OUTCOME, changed
from itool_pipeline_tests.judges.by_source import JUDGE

PLAIN = changed(
    MctsConfig(depth=5, width=2, iterations=4, simulation=4, c=1.0, gamma=1.0, samples=2, max_response_tokens=100),
    **ONLY_OUTCOME,
)
GUIDED = changed(PLAIN, guide="gold")
GOLD = (move("[f(", p=0.9), move("a=1,", p=0.2), move("b=2)", p=0.5), last("]", p=(0.5, 0.25)))
"""`[f(a=1,b=2)]`, with what the policy gives each token."""


def guided_problem(gold: Sequence[Move] = GOLD) -> SearchProblem:
    return replace(call_problem(), gold=tuple(replace(m.fragment(), logprobs=()) for m in gold))


class _Scores:
    """The gold answer's tokens have the probabilities of `GOLD`; anything else is a candidate to be graded."""

    asked = 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        answers: list[list[tuple[float, ...]]] = []
        for request in requests:
            if request.continuations and request.continuations[0][-1] in OPTIONS:
                answers += super().score([request])  # type: ignore[misc]
                continue
            self.asked += 1
            assert request.prompt == call_problem().prompt
            (tokens,) = request.continuations
            assert tokens == tuple(token for m in GOLD for token in m.fragment().token_ids)
            answers.append([tuple(log(p) for m in GOLD for p in m.probs)])
        return answers


class TableWithGold(_Scores, TablePolicy):
    pass


class RandomWithGold(_Scores, RandomPolicy):
    pass


def _search(policy: Any, problem: SearchProblem, settings: MctsConfig = GUIDED) -> SearchTree:
    (tree,) = search_trees([problem], policy, JUDGE, settings, seed=0)
    return tree


def test_the_gold_answer_is_found_though_the_policy_never_says_it() -> None:
    policy = TableWithGold(
        {
            "": [move("[f(", p=0.5), last("No.", p=0.5)],
            "[f(": [move("a=7,", p=0.8), move("a=8,", p=0.1)],
            "[f(a=1,": [move("b=2)", p=0.6), move("b=3)", p=0.3)],
            "[f(a=1,b=2)": [move(", g(", p=0.9)],
        }
    )
    tree = _search(policy, guided_problem())
    children = {n.state.text: [(tree.nodes[c].text, tree.nodes[c].given) for c in n.children] for n in tree.nodes}
    # what was drawn comes first; what the gold says too is not given, and counts for the width
    assert children[""] == [("[f(", False), ("No.", False)]
    assert children["[f("] == [("a=7,", False), ("a=8,", False), ("a=1,", True)]
    assert children["[f(a=1,"] == [("b=2)", False), ("b=3)", False)]
    assert children["[f(a=1,b=2)"] == [(", g(", False), ("]", True)]
    end = next(n for n in tree.nodes if n.state.finished and n.text == "]")
    assert (end.state.text, end.rewards.correct, end.rewards.flawed) == ("[f(a=1,b=2)]", True, False)
    priors = {n.state.text: n.prior for n in tree.nodes}
    # of the gold's tokens by the policy: a drawn fragment that is the gold's has the same as if it were given
    assert priors["[f("] == pytest.approx(0.9)
    assert priors["[f(a=1,"] == pytest.approx(0.2)
    assert priors["[f(a=1,b=2)]"] == pytest.approx(math.sqrt(0.5 * 0.25))
    assert policy.asked == 1, "the gold answer is scored once a tree"


def test_a_drawn_fragment_that_says_the_same_takes_the_golds_tokens() -> None:
    gold, other = Fragment((1, 2), "a=1,", (-0.5, -0.5), False), Fragment((3,), "b", (-1.0,), False)
    same = Fragment((7, 8, 9), "a=1,", (-1.0,) * 3, False)
    assert children_of([other, same], gold, 2) == [(other, False), (gold, False)]
    assert children_of([other, other], gold, 1) == [(other, False), (gold, True)]
    assert children_of([other, same], None, 1) == [(other, False)]
    # an end is another fragment than going on
    assert children_of([same], replace(gold, finished=True), 3)[1] == (replace(gold, finished=True), True)
    # where the gold's is drawn beyond the width, it is a child all the same, and was given
    assert children_of([other, same], gold, 1) == [(other, False), (gold, True)]


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4))
def test_every_node_on_the_gold_path_that_has_children_has_the_golds(seed: int, width: int, depth: int) -> None:
    settings = changed(GUIDED, width=width, depth=depth, iterations=6, samples=3)
    tree = _search(RandomWithGold(seed), guided_problem(), settings)
    path = [tuple(t for m in GOLD[:i] for t in m.fragment().token_ids) for i in range(len(GOLD))]
    for node in tree.nodes:
        children = [tree.nodes[child] for child in node.children]
        assert len(children) <= width + any(child.given for child in children)
        if node.state.token_ids in path and children:
            following = GOLD[path.index(node.state.token_ids)]
            assert [c.text for c in children if (c.text, c.state.finished) == (following.text, following.finished)] == [
                following.text
            ]
        assert sum(child.given for child in children) <= 1
    on_path = [n for n in tree.nodes if n.state.text == "[f("[: len(n.state.text)] and n.depth == 1 and n.text == "[f("]
    assert len(on_path) == 1


@given(st.integers(0, 1000), st.sampled_from(["none", "gold"]), st.integers(1, 2))
def test_below_a_flaw_nothing_is_drawn(seed: int, guide: str, leaves: int) -> None:
    settings = changed(PLAIN, guide=guide, expand="sound", iterations=9, samples=3, leaves=leaves)
    tree = _search(RandomWithGold(seed), guided_problem(), settings)
    assert all(not tree.nodes[node.parent].rewards.flawed for node in tree.nodes[1:])
    # what is sound is searched all the same: the gold answer's next steps among it
    assert guide == "none" or any(node.state.text.startswith("[f(a=1,") for node in tree.nodes)
    assert tree.nodes[0].visits == 9


@pytest.mark.parametrize("seed", range(5))
def test_without_a_guide_the_gold_answer_changes_nothing(seed: int) -> None:
    policy = RandomWithGold(seed)
    with_gold, without = _search(policy, guided_problem(), PLAIN), _search(RandomPolicy(seed), call_problem(), PLAIN)
    assert policy.asked == 0
    assert [(n.state.token_ids, n.visits, n.action_value, n.given) for n in with_gold.nodes] == [
        (n.state.token_ids, n.visits, n.action_value, False) for n in without.nodes
    ]
    assert with_gold.gold == ()


def test_a_problem_without_gold_fragments_is_searched_as_ever() -> None:
    tree = _search(TablePolicy({"": [last("No.", p=0.5)]}), text_problem())
    assert [n.given for n in tree.nodes] == [False, False]

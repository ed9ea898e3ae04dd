"""The parts of the search, and the cases at its edges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.config import MctsConfig
from itool_pipeline.core.judge import Agreement, Verdict
from itool_pipeline.core.policy import Fragment
from itool_pipeline.core.reward import ResponseState, Reward
from itool_pipeline.core.search import distinct_fragments, fragment_prior, grow_tree, next_state, search_trees
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Example
from itool_pipeline_tests.core.fake_policy import TablePolicy, call_problem, last, move, text_problem, token
from itool_pipeline_tests.core.settings import ONLY_GRADE, ONLY_OUTCOME, changed
from itool_pipeline_tests.core.test_search_golden import grade_for
from itool_pipeline_tests.judges.by_source import JUDGE

GRADED = MctsConfig(depth=4, width=3, iterations=3, simulation=2, c=1.0, gamma=1.0, samples=4, max_response_tokens=100)
PLAIN = changed(GRADED, **ONLY_OUTCOME)


def _search(policy: TablePolicy, settings: MctsConfig = PLAIN) -> SearchTree:
    (tree,) = search_trees([text_problem()], policy, JUDGE, settings, seed=0)
    return tree


def test_prior_forms_by_hand() -> None:
    logprobs = [math.log(0.5), math.log(0.25), math.log(0.125)]
    assert fragment_prior(logprobs, "geometric_mean") == pytest.approx(0.25)  # (1/64)^(1/3)
    assert fragment_prior(logprobs, "product") == pytest.approx(1 / 64)
    assert fragment_prior([0.0, -math.inf], "geometric_mean") == 0.0


@pytest.mark.parametrize("form", ["geometric_mean", "product"])
def test_prior_is_a_probability_though_engines_round(form: str) -> None:
    assert fragment_prior([1e-6, 1e-7], form) == 1.0


def _fragment(text: str, *ids: int, finished: bool = False) -> Fragment:
    return Fragment(ids, text, (-1.0,) * len(ids), finished)


def test_distinct_keeps_the_first_of_equals_and_counts_width_after() -> None:
    a, other_a, b, c = _fragment("a", 1), _fragment("a", 2, 3), _fragment("b", 4), _fragment("c", 5)
    nothing = _fragment("")
    assert distinct_fragments([a, other_a, nothing, b, a, c], 2) == [a, b]
    assert distinct_fragments([a, other_a, nothing, b, a, c], 5) == [a, b, c]
    assert distinct_fragments([other_a, c, a], 5) == [other_a, c]
    assert distinct_fragments([nothing, nothing], 3) == []


def test_an_end_is_another_fragment_than_going_on() -> None:
    goes_on, ends = _fragment("]", 1), _fragment("]", 1, 0, finished=True)
    assert distinct_fragments([goes_on, ends, goes_on], 3) == [goes_on, ends]


def test_step_appends_and_knows_when_a_response_is_too_long() -> None:
    state = ResponseState(text_problem(), (7, 8), "x,")
    after = next_state(state, _fragment(" y,", 9), 4)
    assert (after.token_ids, after.text, after.terminal) == ((7, 8, 9), "x, y,", False)
    assert next_state(state, _fragment(" y,", 9), 3) == replace(after, truncated=True)
    assert next_state(state, _fragment(" y,", 9), 2).truncated
    ended = next_state(state, _fragment(" y", 9, 0, finished=True), 2)
    assert (ended.finished, ended.truncated, ended.terminal) == (True, False, True)


def test_an_empty_answer() -> None:
    tree = _search(TablePolicy({"": [last(p=0.3)]}))
    root, end = tree.nodes
    assert (end.text, end.state.text, end.state.finished) == ("", "", True)
    assert end.prior == pytest.approx(0.3)
    # R(root) = 0, R(end) = O = -1: an empty answer calls no tool, which the checker takes here, but answers nothing
    assert (end.rewards.correct, end.reward, end.action_value, end.visits) == (False, -1.0, -1.0, 3)
    assert (root.visits, root.value) == (3, -1.0)


def test_a_response_that_gets_too_long_is_wrong_and_ends() -> None:
    policy = TablePolicy({"": [move("so", " on,", p=0.5)], "so on,": [move(" and", " on,", p=0.5)]})
    tree = _search(policy, changed(PLAIN, max_response_tokens=3))
    # two tokens, then four: R = 0, 1/2 (no tool called so far), -1
    assert [(n.state.truncated, n.reward, n.visits) for n in tree.nodes] == [
        (False, 0.0, 3),
        (False, 0.5, 3),
        (True, -1.5, 3),
    ]
    assert [n.rewards.correct for n in tree.nodes] == [None, None, False]
    assert [n.value for n in tree.nodes] == [-1.0, -1.5, 0.0]
    assert [request.response_text for request in policy.sampled] == ["", "so on,"]


def test_samples_that_are_all_the_same_are_one_child() -> None:
    tree = _search(TablePolicy({"": [move("a,", p=0.5)], "a,": [last("b.", p=0.5)]}))
    assert [n.children for n in tree.nodes] == [[1], [2], []]
    assert [n.visits for n in tree.nodes] == [3, 3, 3]


def test_a_policy_with_nothing_to_say_leaves_the_root_alone() -> None:
    tree = _search(TablePolicy({}))
    (root,) = tree.nodes
    assert (root.visits, root.value, root.children) == (3, 0.0, [])


def test_a_terminal_root_asks_for_nothing() -> None:
    tree = SearchTree.rooted(text_problem(), Reward(1.0, 0.0, True))
    tree.nodes[0].state = replace(tree.nodes[0].state, finished=True)
    for _ in range(3):
        assert list(grow_tree(tree, JUDGE, PLAIN, 1, seed=0)) == []
    assert (tree.nodes[0].visits, tree.nodes[0].value) == (3, 0.0)


def test_without_iterations_there_is_a_root() -> None:
    policy = TablePolicy({"": [move("a,", p=0.5)]})
    tree = _search(policy, changed(PLAIN, iterations=0))
    assert (len(tree.nodes), tree.nodes[0].visits, policy.sampled) == (1, 0, [])


def test_no_problems_no_trees() -> None:
    assert search_trees([], TablePolicy({}), JUDGE, GRADED, seed=0) == []


@pytest.mark.parametrize(("simulation", "deepest"), [(0, 1), (1, 2), (2, 3), (3, 4), (9, 5)])
def test_a_roll_out_goes_so_many_steps_beyond_the_expansion(simulation: int, deepest: int) -> None:
    table = {"a" * n: [move("a", p=0.5)] for n in range(9)}
    tree = _search(TablePolicy(table), changed(PLAIN, iterations=1, depth=5, simulation=simulation))
    assert [n.depth for n in tree.nodes] == list(range(deepest + 1))
    assert all(n.visits == 1 for n in tree.nodes)


def test_width_keeps_the_first_distinct_samples() -> None:
    table = {"": [move("a", p=0.1), move("a", p=0.1), move("b", p=0.1), move("c", p=0.9)]}
    tree = _search(TablePolicy(table), changed(PLAIN, width=2, depth=1))
    assert [n.text for n in tree.nodes[1:]] == ["a", "b"]


def test_requests_carry_the_prompt_the_path_and_their_own_seed() -> None:
    policy = TablePolicy({"": [move("a,", p=0.5)], "a,": [last("b.", p=0.5)]})
    problems = [text_problem("one"), text_problem("two")]
    search_trees(problems, policy, JUDGE, PLAIN, seed=0)
    assert [(r.prompt, r.response_text, r.response, r.count) for r in policy.sampled] == [
        (problems[0].prompt, "", (), 4),
        (problems[1].prompt, "", (), 4),
        (problems[0].prompt, "a,", (token("a,"),), 4),
        (problems[1].prompt, "a,", (token("a,"),), 4),
    ]
    seeds = [r.seed for r in policy.sampled]
    assert len(set(seeds)) == 4
    search_trees(problems, policy, JUDGE, PLAIN, seed=0)
    assert [r.seed for r in policy.sampled[4:]] == seeds
    search_trees(problems, policy, JUDGE, PLAIN, seed=1)
    assert not {*seeds} & {r.seed for r in policy.sampled[8:]}


class _Loud:
    """Right is what is in capitals, and the more exclamation marks the better."""

    syntax = PYTHON_CALLS

    def verdict(self, example: Example, response: str) -> Verdict:
        return Verdict(response.isupper())

    def agreement(self, example: Example, partial: str) -> Agreement:
        return Agreement(min(1.0, partial.count("!") / 4), flawed="?" in partial)


def test_the_judge_is_handed_in() -> None:
    policy = TablePolicy({"": [move("a!,", p=0.5), last("B", p=0.5), last("b", p=0.5)]})
    (tree,) = search_trees([call_problem()], policy, _Loud(), PLAIN, seed=0)
    # O = 1/2 · 1/4 for one mark of four, 1 for a response in capitals, -1 for another
    assert {n.state.text: n.rewards.outcome for n in tree.nodes} == {"": 0.0, "a!,": 0.125, "B": 1.0, "b": -1.0}
    assert {n.state.text: n.rewards.correct for n in tree.nodes if n.state.terminal} == {"B": True, "b": False}


class _Batches(TablePolicy):
    """Counts batches as well."""

    batches = 0

    def sample(self, requests):  # type: ignore[no-untyped-def]
        self.batches += 1
        return super().sample(requests)


def test_all_trees_are_served_in_one_batch_a_round() -> None:
    policy = _Batches({"": [move("a,", p=0.5)], "a,": [move("b,", p=0.5)], "a,b,": [last(p=0.5)]})
    problems = [text_problem(str(i)) for i in range(5)]
    search_trees(problems, policy, JUDGE, GRADED, seed=0)
    assert policy.batches == 3
    assert len(policy.sampled) == 15
    # the roots and three rounds; one request for each problem each time
    assert len(policy.scored) == 20


def test_progress_counts_iterations_of_all_trees() -> None:
    seen: list[tuple[int, int]] = []
    table = {"": [move("a,", p=0.5)], "a,": [last("b.", p=0.5)]}
    problems = [call_problem(), text_problem()]
    search_trees(problems, TablePolicy(table), JUDGE, PLAIN, seed=0, progress=lambda *at: seen.append(at))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("leaves", "virtual_loss", "visits"),
    [
        # one after the other: a, then a again, for 1 + 0.1 · 0.5 · 1/2 > 1/2 + 0.1 · 0.5
        (1, 1.0, [2, 2, 0]),
        # at once: the first path takes 1 off a's Q, and the second goes to b, for 0.025 < 1/2 + 0.05
        (2, 1.0, [2, 1, 1]),
        # as a mere visit it takes nothing off: 1 + 0.025 > 1/2 + 0.05
        (2, 0.0, [2, 2, 0]),
        # 0.6 + 0.025 > 1/2 + 0.05
        (2, 0.4, [2, 2, 0]),
        # more paths than iterations are left
        (9, 1.0, [2, 1, 1]),
    ],
)
def test_paths_that_are_under_way_at_once_part_by_their_loss(
    leaves: int, virtual_loss: float, visits: list[int]
) -> None:
    policy = TablePolicy({"": [move("a,", p=0.5), move("b,", p=0.5)]}, {"a,": grade_for(1.0), "b,": grade_for(0.5)})
    at_once = {"leaves": leaves, "virtual_loss": virtual_loss}
    tree = _search(policy, changed(GRADED, width=2, depth=1, iterations=2, c=0.1, **at_once, **ONLY_GRADE))
    assert [n.visits for n in tree.nodes] == visits
    assert all(n.under_way == 0 for n in tree.nodes)
    assert len(policy.sampled) == 1, "the leaf that both start from is expanded once"


def test_a_path_under_way_counts_as_a_visit() -> None:
    """Without any loss: a has 1 + 3 · 0.5 · 1/2 = 1.75, b has 1/2 + 3 · 0.5 = 2."""
    policy = TablePolicy({"": [move("a,", p=0.5), move("b,", p=0.5)]}, {"a,": grade_for(1.0), "b,": grade_for(0.5)})
    limits = {"leaves": 2, "virtual_loss": 0.0, "c": 3.0, "width": 2, "depth": 1, "iterations": 2}
    assert [n.visits for n in _search(policy, changed(GRADED, **limits, **ONLY_GRADE)).nodes] == [2, 1, 1]


def test_leaves_of_one_tree_are_asked_for_at_once() -> None:
    table = {"": [move("a,", p=0.5), move("b,", p=0.5)]} | {f"{x},": [move("c,", p=0.5)] for x in "ab"}
    policy = _Batches(table)
    tree = _search(policy, changed(PLAIN, leaves=2, iterations=2, width=2, depth=2))
    assert (policy.batches, len(policy.sampled), len(tree.nodes)) == (2, 3, 5)

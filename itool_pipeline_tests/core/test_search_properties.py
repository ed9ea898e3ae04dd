"""What holds of every tree, on random policies."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import search_trees
from itool_pipeline.core.tree import SearchTree
from itool_pipeline_tests.core.brute_force import BruteForce, Path
from itool_pipeline_tests.core.fake_policy import Move, RandomPolicy, TablePolicy, call_problem, text_problem
from itool_pipeline_tests.core.settings import DRAWN_GRADES, ONLY_GRADE, changed
from itool_pipeline_tests.core.test_search_golden import grade_for
from itool_pipeline_tests.judges.by_source import JUDGE

SETTINGS = st.builds(
    MctsConfig,
    depth=st.integers(1, 6),
    width=st.integers(1, 4),
    iterations=st.integers(1, 6),
    simulation=st.integers(0, 3),
    c=st.sampled_from([0.0, 0.3, 1.0, 5.0, 100.0]),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    samples=st.integers(4, 6),
    max_response_tokens=st.integers(1, 12),
    prior=st.sampled_from(["geometric_mean", "product"]),
)
AT_ONCE = st.builds(lambda limits, leaves: changed(limits, leaves=leaves), SETTINGS, st.integers(1, 4))
"""The same with several paths under way at once."""
SEEDS = st.integers(0, 10**6)
few = settings(max_examples=60)


def _search(policy_seed: int, limits: MctsConfig, seed: int, problem: SearchProblem | None = None) -> SearchTree:
    (tree,) = search_trees([problem or call_problem()], RandomPolicy(policy_seed), JUDGE, limits, seed=seed)
    return tree


@few
@given(SEEDS, AT_ONCE, SEEDS)
def test_equations_8_and_9_hold_at_every_node_after_every_backup(
    policy_seed: int, limits: MctsConfig, seed: int
) -> None:
    for k in range(1, limits.iterations + 1):
        tree = _search(policy_seed, changed(limits, iterations=k), seed)
        for index, node in enumerate(tree.nodes):
            below = [tree.nodes[i] for i in node.children]
            visits = sum(n.visits for n in below)
            v = sum(n.visits * n.action_value for n in below) / visits if visits else 0.0
            assert node.value == pytest.approx(v, abs=1e-9)
            if index:
                r = node.rewards.total - tree.nodes[node.parent].rewards.total
                assert node.reward == pytest.approx(r, abs=1e-12)
                assert node.action_value == pytest.approx(r + limits.gamma * v, abs=1e-9)


def _puct(tree: SearchTree, before: SearchTree, index: int, c: float) -> float:
    """Eq. 5 for one child, with what was known before the iteration; a new node had Q = r and N = 0."""
    known = before.nodes[index] if index < len(before.nodes) else None
    node = tree.nodes[index]
    q, n = (known.action_value, known.visits) if known else (node.reward, 0)
    above = before.nodes[node.parent].visits if node.parent < len(before.nodes) else 0
    return q + c * node.prior * math.sqrt(above) / (1 + n)


@few
@given(SEEDS, SETTINGS, SEEDS)
def test_each_iteration_visits_one_path_of_arg_maxima(policy_seed: int, limits: MctsConfig, seed: int) -> None:
    before = _search(policy_seed, changed(limits, iterations=0), seed)
    for k in range(1, limits.iterations + 1):
        tree = _search(policy_seed, changed(limits, iterations=k), seed)
        old = [n.visits for n in before.nodes] + [0] * (len(tree.nodes) - len(before.nodes))
        assert [n.fragment for n in tree.nodes[: len(before.nodes)]] == [n.fragment for n in before.nodes]
        gained = [n.visits - was for n, was in zip(tree.nodes, old, strict=True)]
        path = [i for i, more in enumerate(gained) if more]
        assert all(gained[i] == 1 for i in path)
        assert path[0] == 0
        assert all(tree.nodes[b].parent == a for a, b in pairwise(path))
        for a, b in pairwise(path):
            scores = {i: _puct(tree, before, i, limits.c) for i in tree.nodes[a].children}
            assert scores[b] >= max(scores.values()) - 1e-9
        # a path ends only where the limits say so: this policy always has something to say
        end = tree.nodes[path[-1]]
        new = sum(
            tree.nodes[i].children != [] and (i >= len(before.nodes) or not before.nodes[i].children) for i in path
        )
        assert end.children == []
        assert new <= 1 + limits.simulation
        assert end.state.terminal or end.depth == limits.depth or new == 1 + limits.simulation
        before = tree


@few
@given(SEEDS, SETTINGS, SEEDS)
def test_visits_add_up(policy_seed: int, limits: MctsConfig, seed: int) -> None:
    ended: Counter[int] = Counter()
    old: list[int] = []
    for k in range(limits.iterations + 1):
        tree = _search(policy_seed, changed(limits, iterations=k), seed)
        visits = [n.visits for n in tree.nodes]
        old += [0] * (len(visits) - len(old))
        if k:
            ended[max(i for i, (now, was) in enumerate(zip(visits, old, strict=True)) if now > was)] += 1
        assert visits[0] == k
        for index, node in enumerate(tree.nodes):
            assert node.visits == ended[index] + sum(visits[i] for i in node.children)
        old = visits


@few
@given(SEEDS, AT_ONCE, SEEDS)
def test_limits_hold(policy_seed: int, limits: MctsConfig, seed: int) -> None:
    policy = RandomPolicy(policy_seed)
    (tree,) = search_trees([text_problem()], policy, JUDGE, limits, seed=seed)
    assert len(policy.sampled) <= limits.iterations * (1 + limits.simulation)
    assert tree.nodes[0].visits == limits.iterations
    for index, node in enumerate(tree.nodes):
        siblings = [(tree.nodes[i].text, tree.nodes[i].state.finished) for i in node.children]
        assert len(siblings) == len(set(siblings)) <= limits.width
        assert node.depth <= limits.depth
        assert not (node.children and (node.state.terminal or node.depth == limits.depth))
        assert 0.0 <= node.prior <= 1.0
        assert node.state.truncated == (
            len(node.state.token_ids) >= limits.max_response_tokens and not node.state.finished
        )
        if index:
            assert node.parent < index
            above, fragment = tree.nodes[node.parent], node.fragment
            assert fragment is not None
            assert node.depth == above.depth + 1
            assert index in above.children
            assert node.state.text == above.state.text + fragment.text
            assert node.state.token_ids == above.state.token_ids + fragment.token_ids


@few
@given(SEEDS, AT_ONCE, SEEDS, st.permutations(range(5)), st.sampled_from([{}, DRAWN_GRADES]))
def test_many_trees_in_a_batch_are_the_trees_one_at_a_time(
    policy_seed: int, limits: MctsConfig, seed: int, order: list[int], grades: dict[str, Any]
) -> None:
    problems = [call_problem("a"), text_problem("b"), call_problem("c"), text_problem("d"), call_problem("e")]
    limits = changed(limits, **grades)
    together = search_trees([problems[i] for i in order], RandomPolicy(policy_seed), JUDGE, limits, seed=seed)
    assert together == [_search(policy_seed, limits, seed, problems[i]) for i in order]


def test_sampled_grades_are_drawn_from_the_seed_of_the_tree() -> None:
    policy, limits = RandomPolicy(3), MctsConfig(iterations=3, simulation=1, max_response_tokens=50, **DRAWN_GRADES)
    roots = [search_trees([call_problem()], policy, JUDGE, limits, seed=s)[0].nodes[0].rewards for s in range(12)]
    assert len({root.self_evaluation for root in roots}) > 3
    assert len({root.outcome for root in roots}) == 1


@few
@given(SEEDS, AT_ONCE, SEEDS)
def test_the_seed_decides_everything(policy_seed: int, limits: MctsConfig, seed: int) -> None:
    assert _search(policy_seed, limits, seed) == _search(policy_seed, limits, seed)


def test_another_seed_gives_another_tree() -> None:
    limits = MctsConfig(depth=4, iterations=4, max_response_tokens=50)
    texts = [[n.text for n in _search(5, limits, seed).nodes] for seed in range(4)]
    assert len({*map(tuple, texts)}) > 1


def _full_table(seed: int, depth: int, names: str) -> tuple[TablePolicy, BruteForce]:
    """Every name at every node, random priors and rewards; all of it is known to the brute force."""
    rng = random.Random(seed)
    moves: dict[str, list[Move]] = {}
    rewards = {"": 0.0}
    texts = [""]
    for _ in range(depth):
        for text in texts:
            moves[text] = [Move((name,), (rng.uniform(0.3, 1.0),)) for name in names]
        texts = [text + name for text in texts for name in names]
        rewards |= {text: rng.uniform(-1.0, 1.0) for text in texts}
    oracle = BruteForce(
        lambda path: [(m.name, m.probs[0]) for m in moves["".join(path)]],
        lambda path: rewards["".join(path)],
        lambda path: False,
        depth,
        c=2.0,
        gamma=0.9,
        simulation=1,
    )
    return TablePolicy(moves, {text: grade_for(r) for text, r in rewards.items()}), oracle


def _greedy(tree: SearchTree) -> Path:
    """From the root, always the child with the largest Q."""
    index, path = 0, list[str]()
    while tree.nodes[index].children:
        index = max(tree.nodes[index].children, key=lambda i: tree.nodes[i].action_value)
        path.append(tree.nodes[index].text)
    return tuple(path)


def _clear(oracle: BruteForce, path: Path, gap: float) -> bool:
    """Whether at every node of the best path the best move is better than the next by at least `gap`."""
    for length in range(len(path)):
        at = path[:length]
        values = sorted(
            oracle.reward((*at, m)) - oracle.reward(at) + oracle.gamma * oracle.optimal((*at, m))[0]
            for m, _ in oracle.moves(at)
        )
        if values[-1] - values[-2] < gap:
            return False
    return True


@pytest.mark.parametrize("depth", [2, 3])
def test_converges_to_the_best_path(depth: int) -> None:
    """Why it must: the policy offers every move (width and samples cover all of them), so the tree becomes the whole
    game; priors are above 0 and c > 0, so the second term of Eq. 5 grows as sqrt(N) and every move is tried again and
    again; a move worse by d gets about c p sqrt(N) / d of N visits, so its weight in Eq. 8 goes to 0 as 1 / sqrt(N).
    From the leaves up, V then tends to the largest Q, and Q to the largest discounted sum of rewards. Each best move
    is better than the next by 0.2 or more, so that 3000 iterations are enough to tell them apart.
    """
    games = (_full_table(seed, depth, "xyz") for seed in range(200))
    clear = [(policy, oracle) for policy, oracle in games if _clear(oracle, oracle.optimal()[1], gap=0.2)][:6]
    assert len(clear) == 6
    for policy, oracle in clear:
        best, path = oracle.optimal()
        errors = []
        for iterations in (30, 3000):
            kept = {"width": 3, "samples": 3, "c": oracle.c, "gamma": oracle.gamma, "max_response_tokens": 100}
            limits = MctsConfig(depth=depth, iterations=iterations, simulation=1, **kept, **ONLY_GRADE)
            (tree,) = search_trees([text_problem()], policy, JUDGE, limits, seed=0)
            errors.append(abs(tree.nodes[0].value - best))
        assert _greedy(tree) == path
        assert errors[1] < 0.2
        assert errors[1] < errors[0] / 3

"""The tree after each iteration against a brute force written from the paper (Eq. 5, 8 and 9)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import pytest

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import search_trees
from itool_pipeline_tests.core.brute_force import BruteForce, Path
from itool_pipeline_tests.core.fake_policy import Grade, Move, TablePolicy, call_problem, text_problem
from itool_pipeline_tests.core.settings import ONLY_GRADE, changed
from itool_pipeline_tests.core.test_search_golden import (
    CALL_REWARDS,
    REWARDS,
    call_policy,
    grade_for,
    limits,
    path_of,
    two_by_two,
)
from itool_pipeline_tests.judges.by_source import JUDGE


def check_against_brute_force(
    policy: TablePolicy,
    problem: SearchProblem,
    rewards: Mapping[str, float],
    settings: MctsConfig,
) -> BruteForce:
    """The tree after each iteration has the brute force's nodes, visits, V and Q."""

    def moves(path: Path) -> list[tuple[str, float]]:
        found = policy.table.get("".join(path), ())
        return [(m.name, math.prod(m.probs) ** (1 / len(m.probs))) for m in found]

    oracle = BruteForce(
        moves,
        lambda path: rewards["".join(path)],
        lambda path: bool(path) and path[-1].endswith("$"),
        settings.depth,
        settings.c,
        settings.gamma,
        settings.simulation,
    )
    for k in range(1, settings.iterations + 1):
        oracle.iterate()
        now = changed(settings, iterations=k)
        (tree,) = search_trees([problem], policy, JUDGE, now, seed=0)
        known = {(): 0.0} | {(*path, name): 0.0 for path, below in oracle.opened.items() for name, _ in below}
        assert {path_of(tree, i) for i in range(len(tree.nodes))} == known.keys()
        for index, node in enumerate(tree.nodes):
            path = path_of(tree, index)
            assert node.visits == oracle.visits[path], (k, path)
            assert node.value == pytest.approx(oracle.v(path), abs=1e-9), (k, path)
            if path:
                assert node.action_value == pytest.approx(oracle.q(path), abs=1e-9), (k, path)
    return oracle


@pytest.mark.parametrize("simulation", [0, 1, 2, 5])
@pytest.mark.parametrize(("c", "gamma"), [(1.0, 1.0), (16.0, 0.5), (0.0, 0.9), (100.0, 0.0)])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_call_by_brute_force(simulation: int, c: float, gamma: float, depth: int) -> None:
    settings = limits(12, depth=depth, simulation=simulation, c=c, gamma=gamma)
    oracle = check_against_brute_force(call_policy(), call_problem(), CALL_REWARDS, settings)
    assert oracle.visits[()] == 12


@pytest.mark.parametrize(("c", "gamma"), [(1.0, 0.5), (0.0, 0.5), (100.0, 0.5), (2.0, 1.0)])
def test_two_by_two_by_brute_force(c: float, gamma: float) -> None:
    settings = limits(20, depth=2, c=c, gamma=gamma, **ONLY_GRADE)
    check_against_brute_force(two_by_two(), text_problem(), REWARDS, settings)


def random_table(seed: int, depth: int, names: Sequence[str]) -> tuple[TablePolicy, dict[str, float]]:
    """At each node some of `names`, some of them ends, with random priors and random rewards; and those rewards."""
    rng = random.Random(seed)
    table: dict[str, list[Move]] = {}
    grades: dict[str, Grade] = {"": grade_for(0.0)}
    rewards = {"": 0.0}

    def build(text: str, level: int) -> None:
        table[text] = []
        for name in rng.sample(names, rng.randint(0 if level else 1, len(names))):
            end = rng.random() < 0.2
            p = (rng.uniform(0.05, 1.0), *((rng.uniform(0.05, 1.0),) if end else ()))
            table[text].append(Move((name,), p, finished=end))
            reward = rng.uniform(-2, 2)
            rewards[text + name + "$" * end] = reward
            grades[text + name] = grade_for(reward)
            if level + 1 < depth and not end:
                build(text + name, level + 1)

    build("", 0)
    return TablePolicy(table, grades), rewards


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("simulation", [0, 2])
def test_random_tables_by_brute_force(seed: int, simulation: int) -> None:
    rng = random.Random(1000 + seed)
    policy, rewards = random_table(seed, depth=4, names="vwxyz"[: 3 + seed % 3])
    c, gamma = rng.choice([0.0, 0.5, 1.0, 8.0]), rng.choice([1.0, 0.8, 0.3])
    settings = limits(10, depth=4, simulation=simulation, c=c, gamma=gamma, **ONLY_GRADE)
    check_against_brute_force(policy, text_problem(), rewards, settings)

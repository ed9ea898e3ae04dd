"""The view `signal_quality`: a tree worked out by hand, and drawn trees against every pair of steps compared."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.store.database import Database
from itool_pipeline.store.tables import NODES
from itool_pipeline_tests.store.by_hand import A, B, artifact, ask, load, rows

Node = dict[str, Any]
SIGNALS = ("outcome", "self_evaluation", "reward", "action_value", "prior", "value")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "itool.duckdb")


def put_trees(database: Database, name: str, asset: str, nodes: Sequence[Node], *experiments: str) -> None:
    load(database, "nodes", name, rows(database, "nodes", *nodes))
    for experiment in experiments:
        database.record_materialization(experiment, artifact(asset, name), run_id="run", reused=False)


def step(number: int, parent: int | None, c: float, *, flawed: bool = False, correct: bool | None = None) -> Node:
    ids = {"tree_id": "t", "node_id": number, "parent_id": parent}
    return {**ids, **dict.fromkeys(SIGNALS, 0.5), "self_evaluation": c, "flawed": flawed, "correct": correct}


BY_HAND = (
    step(0, None, 0.0),
    step(1, 0, 0.4),
    step(2, 0, 0.2, flawed=True),
    step(3, 0, 0.2),
    step(4, 1, 0.9, correct=True),
    step(5, 1, 0.5, flawed=True, correct=False),
    step(6, 2, 0.7, flawed=True, correct=False),
    step(7, 3, 0.1, flawed=True, correct=False),
)
"""Of 1 both a right and a wrong answer were found, of 2 and 3 wrong ones."""


def test_a_tree_by_hand(database: Database) -> None:
    put_trees(database, A, "iteration_2/trees", BY_HAND, "first")
    columns = "experiment, iteration, truth, among, auc, true_steps, false_steps, pairs"
    assert ask(database, f"SELECT {columns} FROM signal_quality WHERE signal = 'self_evaluation'") == [
        # 1, 3 and 4 against 2, 5 and 7; 6 comes after a flaw. Two below 0.4; one below 0.2, one level; three
        ("first", 2, "no_flaw", "all", pytest.approx((2 + 1.5 + 3) / 9), 3, 3, 9),
        # 1 against 2, 3 level with 2, 4 against 5; 7 has no sibling
        ("first", 2, "no_flaw", "siblings", pytest.approx(2.5 / 3), 3, 2, 3),
        # 1 against 2 and 3: nothing is below the answers themselves
        ("first", 2, "right_answer", "all", 1.0, 1, 2, 2),
        ("first", 2, "right_answer", "siblings", 1.0, 1, 2, 2),
    ]
    # all level
    assert ask(database, "SELECT DISTINCT auc FROM signal_quality WHERE signal <> 'self_evaluation'") == [(0.5,)]


def test_without_false_steps_nothing_is_told(database: Database) -> None:
    put_trees(database, A, "iteration_1/trees", BY_HAND[:2], "first")
    columns = "DISTINCT truth, among, auc, true_steps, false_steps, pairs"
    assert ask(database, f"SELECT {columns} FROM signal_quality") == [("no_flaw", "all", None, 1, 0, 0)]


def drawn(draw: random.Random) -> list[Node]:
    """Trees of drawn shapes; few values, so that many are level."""
    nodes = []
    for tree in range(draw.randrange(1, 9)):
        for number in range(draw.randrange(1, 30)):
            parent = draw.randrange(number) if number else None
            signals = {name: draw.randrange(6) / 5 for name in SIGNALS}
            nodes.append({"tree_id": f"t{tree}", "node_id": number, "parent_id": parent, **signals})
        last = draw.randrange(30)
        for node in nodes[-last:]:
            node["correct"] = draw.choice((True, False, None))
    return [dict.fromkeys(NODES.names) | {"flawed": draw.random() < 0.3} | node for node in nodes]


def truths(nodes: Sequence[Node], truth: str) -> Iterator[tuple[Node, bool]]:
    """(step, what is true of it), for all that anything is known of."""
    by_key = {(node["tree_id"], node["node_id"]): node for node in nodes}
    for node in nodes:
        above = by_key.get((node["tree_id"], node["parent_id"]))
        if above is None:
            continue
        if truth == "no_flaw" and not above["flawed"]:
            yield node, not node["flawed"]
        answers = [other["correct"] for other in nodes if is_below(other, node, by_key)]
        if truth == "right_answer" and set(answers) & {True, False}:
            yield node, True in answers


def is_below(node: Node, step: Node, by_key: dict[tuple[str, int], Node]) -> bool:
    at = node
    while at["parent_id"] is not None:
        at = by_key[at["tree_id"], at["parent_id"]]
        if at is step:
            return True
    return False


def compared(nodes: Sequence[Node], truth: str, among: str, signal: str) -> tuple[Any, ...] | None:
    """(AUC, true steps, false steps, pairs), every true step held against every false one; None for no steps."""
    known = list(truths(nodes, truth))
    right, wrong = ([node for node, is_true in known if is_true is kind] for kind in (True, False))
    pairs = list(product(right, wrong))
    if among == "siblings":
        pairs = [(a, b) for a, b in pairs if all(a[key] == b[key] for key in ("tree_id", "parent_id"))]
        right, wrong = ([n for n in group if any(n in pair for pair in pairs)] for group in (right, wrong))
    if not (right or wrong):
        return None
    higher = sum((a[signal] > b[signal]) + (a[signal] == b[signal]) / 2 for a, b in pairs)
    return pytest.approx(higher / len(pairs)) if pairs else None, len(right), len(wrong), len(pairs)


@pytest.mark.parametrize("seed", range(12))
def test_drawn_trees_by_brute_force(database: Database, seed: int) -> None:
    """Two iterations, the first shared by two experiments."""
    draw = random.Random(seed)
    first, second = drawn(draw), drawn(draw)
    put_trees(database, A, "iteration_1/trees", first, "one", "two")
    put_trees(database, B, "iteration_2/trees", second, "one")
    columns = "experiment, iteration, truth, among, signal, auc, true_steps, false_steps, pairs"
    found = {row[:5]: row[5:] for row in ask(database, f"SELECT {columns} FROM signal_quality")}
    expected = {
        (experiment, iteration, truth, among, signal): told
        for experiment, iteration, nodes in (("one", 1, first), ("two", 1, first), ("one", 2, second))
        for truth, among, signal in product(("no_flaw", "right_answer"), ("all", "siblings"), SIGNALS)
        if (told := compared(nodes, truth, among, signal))
    }
    assert found == expected

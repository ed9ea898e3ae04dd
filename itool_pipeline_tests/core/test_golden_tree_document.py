"""docs/golden_tree.md against the tree that the search builds: every table and every drawing in it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from itool_pipeline.config import PairsConfig
from itool_pipeline.core.preference_pairs import Candidate, Fork, pairs_of
from itool_pipeline.core.search import search_trees
from itool_pipeline.core.tree import SearchTree
from itool_pipeline_tests.core.fake_policy import call_problem
from itool_pipeline_tests.core.test_search_golden import by_name, call_policy, limits, path_of
from itool_pipeline_tests.judges.by_source import JUDGE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "golden_tree.md").read_text()
C, SIMULATION = 16.0, 2


def tree_after(iterations: int) -> SearchTree:
    settings = limits(iterations, simulation=SIMULATION, c=C)
    (tree,) = search_trees([call_problem()], call_policy(), JUDGE, settings, seed=0)
    return tree


def section(title: str) -> str:
    """The text from a heading to the next."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the table in a section, without its head; a code span stands for what is in it."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [["" if cell == "(root)" else cell for cell in row] for row in cells]


def number(value: float) -> str:
    """At most four decimals."""
    return f"{round(value, 4) + 0.0:.4f}".rstrip("0").rstrip(".")


def drawn(tree: SearchTree, before: SearchTree) -> str:
    """The drawing of a tree, with a mark at each node that the iteration visited."""
    lines: list[tuple[str, str]] = []

    def walk(index: int, lead: str, below: str) -> None:
        node = tree.nodes[index]
        name = node.text + "$" * node.state.finished if index else "(root)"
        q = f"Q={number(node.action_value)}" if index else ""
        was = before.nodes[index].visits if index < len(before.nodes) else 0
        mark = "*" if node.visits > was else ""
        lines.append((lead + name, f"N={node.visits}  {q:<9}  V={number(node.value):<7}  {mark}".rstrip()))
        for child in node.children:
            last = child == node.children[-1]
            walk(child, below + ("└── " if last else "├── "), below + ("    " if last else "│   "))

    walk(0, "", "")
    width = max(len(left) for left, _ in lines)
    return "\n".join(f"{left:<{width}}  {right}" for left, right in lines)


def test_the_states() -> None:
    nodes = by_name(tree_after(4))
    found = rows(section("The problem"))
    assert [row[0] for row in found] == list(nodes)
    for name, p, outcome, grade, total, reward in found:
        node = nodes[name]
        expected = (node.prior, node.rewards.outcome, node.rewards.self_evaluation, node.rewards.total, node.reward)
        shown = [number(value) for value in expected]
        assert [p, outcome, grade, total, reward] == (["", *shown[1:4], ""] if not name else shown), name


@pytest.mark.parametrize("iteration", [1, 2, 3, 4])
def test_each_choice_of_an_iteration(iteration: int) -> None:
    before, after = tree_after(iteration - 1), tree_after(iteration)
    index = {"".join(path_of(after, i)): i for i in range(len(after.nodes))}
    found = rows(section(f"Iteration {iteration}"))
    path = [0]
    while any(visited(before, after, child) for child in after.nodes[path[-1]].children):
        path.append(next(i for i in after.nodes[path[-1]].children if visited(before, after, i)))
    expected = [(node, child) for node in path for child in after.nodes[node].children]
    assert [(index[at], index[at + child]) for at, child, *_ in found] == expected
    for (node, child), (_, _, q, p, n, n_child, score) in zip(expected, found, strict=True):
        known = before.nodes[child] if child < len(before.nodes) else None
        action_value, visits = (known.action_value, known.visits) if known else (after.nodes[child].reward, 0)
        above = before.nodes[node].visits if node < len(before.nodes) else 0
        assert [q, p, n, n_child] == [number(action_value), number(after.nodes[child].prior), str(above), str(visits)]
        puct = action_value + C * after.nodes[child].prior * math.sqrt(above) / (1 + visits)
        assert score.strip("*") == number(puct)
        assert score.startswith("**") == (child in path), "the choice is set in bold"


def visited(before: SearchTree, after: SearchTree, index: int) -> bool:
    return after.nodes[index].visits > (before.nodes[index].visits if index < len(before.nodes) else 0)


@pytest.mark.parametrize("iteration", [1, 2, 3, 4])
def test_each_drawing(iteration: int) -> None:
    (drawing,) = re.findall(r"```text\n(.*?)\n```", section(f"Iteration {iteration}"), re.DOTALL)
    assert drawing == drawn(tree_after(iteration), tree_after(iteration - 1))


def test_the_pairs() -> None:
    tree = tree_after(4)
    pairs = [
        pair
        for i, node in enumerate(tree.nodes)
        for steps in [[Candidate(c, tree.nodes[c].text, tree.nodes[c].action_value) for c in node.children]]
        for pair in pairs_of(Fork("t", i, steps), PairsConfig())
    ]
    expected = [
        [
            tree.nodes[pair.node].state.text,
            tree.nodes[pair.chosen].text,
            tree.nodes[pair.rejected].text,
            number(pair.chosen_q),
            number(pair.rejected_q),
            number(pair.similarity),
            str(pair.verdict),
        ]
        for pair in pairs
        if pair is not None
    ]
    assert rows(section("The pairs")) == expected

"""A searched tree as rows of the tables `trees` and `nodes`, and the nodes read back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from itool_pipeline.config import MctsConfig
from itool_pipeline.core.tree import SearchTree, TreeNode
from itool_pipeline.steps.artifact_files import nodes_file, shard_files
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_rows_by_key, read_table_values


class NodeRow(NamedTuple):
    """A row of the table `nodes`, where its columns are explained: the one form of a node outside the search."""

    tree_id: str
    node_id: int
    parent_id: int | None
    depth: int
    fragment: str
    token_ids: Sequence[int]
    prefix: str
    prior: float
    visits: int
    value: float
    action_value: float
    reward: float
    outcome: float
    self_evaluation: float
    terminal: bool
    correct: bool | None
    flawed: bool
    given: bool


def node_rows(tree: SearchTree) -> Iterator[dict[str, Any]]:
    """The tree's rows of the table `nodes`, in the tree's order."""
    return (_node_row(tree, index, node)._asdict() for index, node in enumerate(tree.nodes))


def read_trees(ws: Workspace, k: int) -> Iterator[list[NodeRow]]:
    """The nodes of each of an iteration's trees, parents before children; one tree is held at a time."""
    return read_tree_files(_nodes_files(ws, k))


def read_tree_files(files: Iterable[Path]) -> Iterator[list[NodeRow]]:
    """The nodes of each tree in the shards' files, in their order; one tree is held at a time."""
    for file in files:
        rows = map(NodeRow._make, read_table_values(file, NodeRow._fields))
        yield from (list(nodes) for _, nodes in groupby(rows, attrgetter("tree_id")))


def read_nodes_of(ws: Workspace, k: int, trees: Collection[str]) -> Iterator[NodeRow]:
    """All nodes of a few trees of an iteration."""
    for file in _nodes_files(ws, k):
        yield from (NodeRow(**row) for row in read_rows_by_key(file, "tree_id", trees, NodeRow._fields))


def generated_tokens(ws: Workspace, k: int) -> dict[str, int]:
    """Tree id → tokens that the policy generated for its nodes: of each node's fragment, or of all equal responses
    that a node stands for.

    What was drawn and not kept is in no node, so a search generated at least so many; what it was given does not count.
    """
    found: dict[str, int] = defaultdict(int)
    drawn_once = isinstance(ws.experiment.search, MctsConfig)
    for file in _nodes_files(ws, k):
        for tree, ids, visits, given in read_table_values(file, ("tree_id", "token_ids", "visits", "given")):
            found[tree] += 0 if given else len(ids) * (1 if drawn_once else visits)
    return dict(found)


def tree_row(tree: SearchTree, policy: str) -> dict[str, Any]:
    """The tree's row of the table `trees`. `policy`: fingerprint of the artifact that searched."""
    root = tree.nodes[0]
    return {
        "tree_id": tree.problem.example.id,
        "example_id": tree.problem.example.id,
        "policy": policy,
        "root_outcome": root.rewards.outcome,
        "root_self_evaluation": root.rewards.self_evaluation,
        "node_count": len(tree.nodes),
        "iterations": root.visits,
        "max_depth": max(node.depth for node in tree.nodes),
        "terminal_count": sum(node.state.terminal for node in tree.nodes),
        "best_value": max((tree.nodes[child].action_value for child in root.children), default=None),
    }


def tree_figures(tree: SearchTree) -> dict[str, float]:
    """What is told of a tree as soon as it is done; `right`: 1 when it found an answer that the judge takes."""
    row = tree_row(tree, "")
    found = {"nodes": row["node_count"], "depth": row["max_depth"], "answers": row["terminal_count"]}
    best = {} if row["best_value"] is None else {"best_q": row["best_value"]}
    return {**found, **best, "right": float(any(node.rewards.correct for node in tree.nodes))}


def _nodes_files(ws: Workspace, k: int) -> list[Path]:
    return shard_files(ws.input(f"iteration_{k}/trees"), nodes_file)


def _node_row(tree: SearchTree, index: int, node: TreeNode) -> NodeRow:
    parent = tree.nodes[node.parent] if node.parent >= 0 else None
    return NodeRow(
        tree_id=tree.problem.example.id,
        node_id=index,
        parent_id=node.parent if parent else None,
        depth=node.depth,
        fragment=node.text,
        token_ids=list(node.fragment.token_ids) if node.fragment else [],
        prefix=parent.state.text if parent else "",
        prior=node.prior,
        visits=node.visits,
        value=node.value,
        action_value=node.action_value,
        reward=node.reward,
        outcome=node.rewards.outcome,
        self_evaluation=node.rewards.self_evaluation,
        terminal=node.state.terminal,
        correct=node.rewards.correct,
        flawed=node.rewards.flawed,
        given=node.given,
    )

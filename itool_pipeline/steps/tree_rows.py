"""A searched tree as rows of the tables `trees` and `nodes`, and the nodes read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.core.tree import SearchTree, TreeNode
from itool_pipeline.steps.artifact_files import nodes_file
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows


@dataclass(frozen=True, slots=True)
class NodeRow:
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


def node_rows(tree: SearchTree) -> Iterator[dict[str, Any]]:
    """The tree's rows of the table `nodes`, in the tree's order."""
    return (asdict(_node_row(tree, index, node)) for index, node in enumerate(tree.nodes))


def read_nodes(ws: Workspace, k: int) -> list[NodeRow]:
    """All nodes of an iteration's trees, tree by tree, parents before children."""
    artifact = ws.input(f"iteration_{k}/trees")
    shards = range(artifact.manifest.metadata["shards"])
    return read_node_files(artifact.file(nodes_file(shard)) for shard in shards)


def read_node_files(files: Iterable[Path]) -> list[NodeRow]:
    """All nodes of the shards' files, in their order."""
    return [NodeRow(**row) for file in files for row in read_table_rows(file)]


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


def count_nodes(nodes: Sequence[NodeRow]) -> dict[str, int]:
    """How much was explored: what the report compares iterations by."""
    return {
        "trees": len({n.tree_id for n in nodes}),
        "nodes": len(nodes),
        "distinct_nodes": len({(n.tree_id, n.prefix, n.fragment, n.terminal) for n in nodes}),
        "trees_with_a_correct_answer": len({n.tree_id for n in nodes if n.correct}),
    }


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
    )

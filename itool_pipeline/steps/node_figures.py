"""What is told of the trees of an iteration, counted tree by tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from itool_pipeline.steps.tree_rows import NodeRow

SHOWN = 3
"""Right answers that are shown, and as many wrong ones."""


@dataclass(slots=True)
class NodeFigures:
    """Counts over the trees that were added.

    best    right answers with the highest Q, the earlier of equals first
    worst   the others with the lowest
    """

    trees: int = 0
    nodes: int = 0
    distinct_nodes: int = 0
    trees_with_a_correct_answer: int = 0
    terminal_nodes: int = 0
    correct_terminal_nodes: int = 0
    deepest: int = 0
    best: list[NodeRow] = field(default_factory=list)
    worst: list[NodeRow] = field(default_factory=list)

    @staticmethod
    def of(trees: Iterable[Sequence[NodeRow]]) -> NodeFigures:
        """The figures of all these trees, one of which is held at a time."""
        figures = NodeFigures()
        for tree in trees:
            figures.add(tree)
        return figures

    def add(self, tree: Sequence[NodeRow]) -> None:
        """Counts the nodes of one whole tree in."""
        self.trees += 1
        self.nodes += len(tree)
        self.distinct_nodes += len({(n.prefix, n.fragment, n.terminal) for n in tree})
        terminal = [node for node in tree if node.terminal]
        right = [node for node in terminal if node.correct]
        self.trees_with_a_correct_answer += any(node.correct for node in tree)
        self.terminal_nodes += len(terminal)
        self.correct_terminal_nodes += len(right)
        self.deepest = max(self.deepest, *(node.depth for node in tree))
        wrong = [node for node in terminal if not node.correct]
        self.best = sorted([*self.best, *right], key=lambda n: -n.action_value)[:SHOWN]
        self.worst = sorted([*self.worst, *wrong], key=lambda n: n.action_value)[:SHOWN]

    def explored(self) -> dict[str, int]:
        """How much was explored: what the report compares iterations by."""
        return {
            "trees": self.trees,
            "nodes": self.nodes,
            "distinct_nodes": self.distinct_nodes,
            "trees_with_a_correct_answer": self.trees_with_a_correct_answer,
        }

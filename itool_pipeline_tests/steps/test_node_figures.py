"""Figures of nodes that are counted tree by tree, against plain counting over all of them at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from itool_pipeline.steps.node_figures import NodeFigures
from itool_pipeline.steps.tree_rows import NodeRow, read_tree_files
from itool_pipeline.store.table_files import ROW_GROUP, write_table_file
from itool_pipeline.store.tables import NODES


def drawn_nodes(draw: random.Random, tree: str, size: int) -> list[NodeRow]:
    """A tree whose fragments and values often coincide."""
    nodes = []
    for number in range(size):
        terminal = number > 0 and draw.random() < 0.3
        nodes.append(
            NodeRow(
                *(tree, number, draw.randrange(number) if number else None, draw.randrange(5)),
                *(draw.choice("ab"), [number], draw.choice(["", "a", "b"])),
                *(0.5, 1, 0.0, draw.choice([-1.0, 0.0, 1.0]), 0.0, 0.0, 0.0),
                *(terminal, draw.random() < 0.5 if terminal else None, draw.random() < 0.5, draw.random() < 0.5),
            )
        )
    return nodes


def drawn_trees(count: int, size: int) -> list[list[NodeRow]]:
    draw = random.Random(count)
    return [drawn_nodes(draw, f"t{i}", draw.randint(1, size)) for i in range(count)]


def test_counted_tree_by_tree_or_all_at_once() -> None:
    trees = drawn_trees(40, 12)
    nodes = [node for tree in trees for node in tree]
    figures = NodeFigures.of(trees)
    assert figures.explored() == {
        "trees": 40,
        "nodes": len(nodes),
        "distinct_nodes": len({(n.tree_id, n.prefix, n.fragment, n.terminal) for n in nodes}),
        "trees_with_a_correct_answer": len({n.tree_id for n in nodes if n.correct}),
    }
    terminal = [n for n in nodes if n.terminal]
    assert figures.terminal_nodes == len(terminal)
    assert figures.correct_terminal_nodes == len([n for n in terminal if n.correct])
    assert figures.deepest == max(n.depth for n in nodes)
    assert figures.best == sorted((n for n in terminal if n.correct), key=lambda n: -n.action_value)[:3]
    assert figures.worst == sorted((n for n in terminal if not n.correct), key=lambda n: n.action_value)[:3]


def test_of_no_trees() -> None:
    assert set(NodeFigures.of([]).explored().values()) == {0}


def test_trees_come_back_whole_from_files(tmp_path: Path) -> None:
    """One at a time, also where a row group ends inside of a tree; a file without trees has none."""
    trees = drawn_trees(90, 24)
    files = [tmp_path / f"{i}.parquet" for i in range(3)]
    parts: Sequence[Sequence[list[NodeRow]]] = (trees[:70], [], trees[70:])
    for file, part in zip(files, parts, strict=True):
        write_table_file(file, NODES, (node._asdict() for tree in part for node in tree))
    assert sum(map(len, trees[:70])) > ROW_GROUP
    assert list(read_tree_files(files)) == trees
    assert next(read_tree_files(iter(files[:1]))) == trees[0], "the other files are not asked for yet"

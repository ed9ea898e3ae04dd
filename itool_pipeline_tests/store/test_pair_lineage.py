"""The view `pair_lineage` on drawn rows: against look-ups in dicts, and by how much of the nodes it touches."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.store.database import Database
from itool_pipeline.store.tables import EXAMPLES, NODES, PAIRS, SPLITS, TREES
from itool_pipeline_tests.store.by_hand import artifact, ask

Rows = list[dict[str, Any]]


def row(table: Any, **given: Any) -> dict[str, Any]:
    """NULL in all columns but those given."""
    return {**dict.fromkeys(table.names), **given}


def of_trees(draw: random.Random, count: int, size: int) -> tuple[Rows, Rows, Rows]:
    """Rows of trees, of their nodes, and of pairs between drawn nodes; some nodes and some trees are missing."""
    trees = [
        row(TREES, tree_id=f"t{i}", example_id=f"e{draw.randrange(count)}", policy="p" * 16, node_count=size)
        for i in range(count)
    ]
    nodes = [
        row(NODES, tree_id=f"t{i}", node_id=n, depth=n % 4, visits=draw.randrange(99), value=draw.random(), prior=n / 7)
        for i in range(count)
        for n in range(size)
        if n == 0 or draw.random() < 0.9
    ]
    pairs = []
    for number in range(2 * count):
        node, chosen, rejected = draw.sample(range(size), 3)
        ids = {"node_id": node, "chosen_node": chosen, "rejected_node": rejected}
        tree = f"t{draw.randrange(count + 1)}"  # one more than there are
        pairs.append(row(PAIRS, pair_id=f"pair{number}", tree_id=tree, kept=draw.random() < 0.5, **ids))
    return trees, nodes, pairs


def fill(database: Database, draw: random.Random, count: int, size: int) -> dict[str, tuple[Rows, Rows, Rows]]:
    """Two iterations of one experiment, the first shared with another; what each iteration was filled with."""
    examples = [row(EXAMPLES, example_id=f"e{i}", question=f"question {i}") for i in range(count)]
    divided = {"group_id": "g", "split": "train"}
    splits = [row(SPLITS, example_id=f"e{i}", difficulty=f"level {i % 3}", **divided) for i in range(count)]
    database.replace_many({"examples": examples}, "e" * 16)
    database.replace_many({"splits": splits}, "5" * 16)
    filled = {}
    for k, experiments in ((1, ("first", "second")), (2, ("first",))):
        buffer, searched, paired = (f"{name}{k}" * 8 for name in "bca")
        policy = {"warmup__hard": "p" * 16} if k == 1 else {"iteration_1__policy": "p" * 16}
        made = (
            artifact(f"iteration_{k}/replay_buffer", buffer, splits="5" * 16, **policy),
            artifact(
                f"iteration_{k}/trees",
                searched,
                examples="e" * 16,
                **{f"iteration_{k}__replay_buffer": buffer},
                **policy,
            ),
            artifact(f"iteration_{k}/pairs", paired, **{f"iteration_{k}__trees": searched}),
        )
        for experiment in experiments:
            for one in made:
                database.record_materialization(experiment, one, run_id="run", reused=False)
        filled[f"iteration_{k}/pairs"] = trees, nodes, pairs = of_trees(draw, count, size)
        database.replace_many({"trees": trees, "nodes": nodes}, searched)
        database.replace_many({"pairs": pairs}, paired)
    return filled


def looked_up(asset: str, rows: tuple[Rows, Rows, Rows]) -> Iterator[tuple[Any, ...]]:
    """What the view must say of each pair of one iteration."""
    trees = {tree["tree_id"]: tree for tree in rows[0]}
    nodes: Mapping[Any, Any] = {(node["tree_id"], node["node_id"]): node for node in rows[1]}
    for pair in rows[2]:
        tree = trees.get(pair["tree_id"])
        number = None if tree is None else int(tree["example_id"][1:])
        parent, chosen, rejected = (
            nodes.get((pair["tree_id"], pair[name]), {}) for name in ("node_id", "chosen_node", "rejected_node")
        )
        yield (
            *(asset, pair["pair_id"], pair["kept"]),
            *(parent.get(name) for name in ("depth", "visits", "value")),
            *(chosen.get(name) for name in ("visits", "prior")),
            *(rejected.get(name) for name in ("visits", "prior")),
            None if number is None else f"question {number}",
            None if number is None else f"level {number % 3}",
            None if tree is None else {"iteration_1/pairs": "warmup/hard"}.get(asset, "iteration_1/policy"),
        )


COLUMNS = """asset, pair_id, kept, node_depth, node_visits, node_value, chosen_visits, chosen_prior, rejected_visits,
    rejected_prior, question, difficulty, policy_asset"""


def test_every_pair_with_what_is_known_of_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "itool.duckdb")
    filled = fill(database, random.Random(1), 12, 9)
    for experiment, assets in (("first", list(filled)), ("second", ["iteration_1/pairs"])):
        found = ask(database, f"SELECT {COLUMNS} FROM pair_lineage WHERE experiment = '{experiment}'")
        assert sorted(found, key=repr) == sorted(
            (line for asset in assets for line in looked_up(asset, filled[asset])), key=repr
        )


def test_a_pair_is_not_joined_with_all_nodes(tmp_path: Path) -> None:
    """What is asked for goes into the hash table, and few nodes leave their scan, for they are filtered by its keys."""
    database = Database(tmp_path / "itool.duckdb")
    filled = fill(database, random.Random(2), 100, 30)
    total = sum(len(nodes) for _, nodes, _ in filled.values())
    with database.read() as connection:
        connection.execute("PRAGMA enable_profiling = 'json'")
        connection.execute(f"PRAGMA profiling_output = '{tmp_path / 'profile.json'}'")
        connection.execute("FROM pair_lineage WHERE experiment = 'first' AND pair_id = 'pair7'").fetchall()
        connection.execute("PRAGMA disable_profiling")
    scans = list(scans_of("nodes", json.loads((tmp_path / "profile.json").read_text())))
    assert len(scans) == 3
    assert max(scans) < total / 2


def scans_of(table: str, operator: Mapping[str, Any]) -> Iterator[int]:
    """The rows that each scan of the table hands on, in a profile."""
    extra = operator.get("extra_info")
    if isinstance(extra, dict) and str(extra.get("Table", "")).endswith(table):
        yield operator["operator_cardinality"]
    for below in operator["children"]:
        yield from scans_of(table, below)

"""A million nodes on their way through files and database: python -m itool_pipeline_tests.bench.rows [NODES]

Trees of random fragments take the way of real ones: written shard by shard, gathered, loaded, made into pairs, asked in
SQL. Each step runs in a process of its own, because the peak of the memory is the process's.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from itool_pipeline import frames
from itool_pipeline.core.policy import Fragment
from itool_pipeline.core.reward import GradePrompt, ResponseState, Reward, SearchProblem
from itool_pipeline.core.tree import SearchTree
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import pairs, trees
from itool_pipeline.steps.artifact_files import BUFFER_FILE, CHECKPOINT_FILE, SPLITS_FILE, nodes_file, trees_file
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.records import DatabaseRecords
from itool_pipeline.steps.tree_rows import node_rows, tree_row
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.database import Database
from itool_pipeline.store.paths import storage_paths
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import BUFFER, NODES, SPLITS, TREES
from itool_pipeline_tests.steps.by_hand import database_of, example, put, put_model, workspace, write_train

Row = dict[str, str | float]
"""One line of the table: `name`, and figures."""

MILLION, NODES_A_TREE, MEGABYTE = 1_000_000, 40, 1e6
CHECKPOINT = {
    **{"stage": policy_before(1), "parent_artifact": "f" * 16, "examples": 0, "steps": 0, "train_loss": None},
    **{"validation_loss": None, "best_step": 0, "trainable_parameters": 0, "losses": {"train": [], "validation": []}},
}
WORDS = [f"{a}{b}" for a in ("city", "date", "unit", "name", "query", "flight") for b in ("", "_id", "_from", "s")]
QUESTIONS = {
    "one pair by its id": "FROM pair_lineage WHERE experiment = 'hand' AND pair_id = $pair",
    "the pair of the largest difference": """FROM pair_lineage WHERE experiment = 'hand' AND kept
        ORDER BY q_difference DESC LIMIT 1""",
    "its whole tree": """WITH best AS (FROM pair_lineage WHERE kept ORDER BY q_difference DESC LIMIT 1)
        SELECT n.* FROM nodes n JOIN best ON n.artifact = best.trees_artifact AND n.tree_id = best.tree_id""",
    "what the filters refused": "SELECT experiment, asset, reason, count(*) FROM pair_lineage GROUP BY ALL",
    "every pair": "SELECT sum(node_visits + chosen_visits + rejected_visits), max(question) FROM pair_lineage",
}
"""What docs/sql.md offers on nodes and pairs."""


def grow_tree(given: Example, draw: random.Random) -> SearchTree:
    """A tree of about NODES_A_TREE nodes and six fragments at most, grown by PUCT on rewards that are drawn."""
    problem = SearchProblem(given, (7,) * 9, GradePrompt((5,), (6,), (1, 2, 3, 4)))
    tree = SearchTree.rooted(problem, Reward(0.0, draw.random(), None))
    while len(tree.nodes) < NODES_A_TREE:
        leaf = tree.select_leaf(1.0)
        state, last = tree.nodes[leaf].state, tree.nodes[leaf].depth == 5
        for _ in range(0 if state.terminal else 3):
            text = f'{draw.choice(WORDS)}="{draw.choice(WORDS)} {draw.randrange(99)}"{")]" if last else ", "}'
            ids = tuple(draw.randrange(49152) for _ in range(len(text) // 3))
            grown = ResponseState(problem, state.token_ids + ids, state.text + text, last)
            reward = Reward(draw.random(), draw.random(), draw.random() < 0.5 if last else None)
            tree.add(leaf, Fragment(ids, text, (), last), grown, draw.random(), reward)
        tree.backup(leaf, 1.0)
    return tree


def prepare(ws: Workspace, count: int) -> None:
    """All that comes before the search of `count` examples, and its rows."""
    keys = [f"example_{number:06d}" for number in range(count)]
    put_model(ws, ws.paths.root / "model", {"model_type": "llama"})
    put(ws, "examples", lambda out: write_train(out, map(example, keys)))
    where = {"split": "train", "difficulty": "easy"}
    splits = [{"example_id": key, "group_id": key, **where} for key in keys]
    put(ws, "splits", lambda out: write_table_file(out / SPLITS_FILE, SPLITS, splits))
    no_answers = {"right_share": None, "mistakes": None, "mistake": None}
    hard = {"perplexity": 1.5, "response_tokens": 9, "selected": True, **no_answers}
    buffer = [{"example_id": key, "rank": rank, **hard} for rank, key in enumerate(keys)]
    put(ws, "iteration_1/replay_buffer", lambda out: write_table_file(out / BUFFER_FILE, BUFFER, buffer))
    put(ws, policy_before(1), lambda out: Parts(out).write_json(CHECKPOINT_FILE, CHECKPOINT))
    for asset in ("examples", "splits", "iteration_1/replay_buffer", policy_before(1)):
        ws.record(ws.input(asset), reused=False)


def search(ws: Workspace) -> Iterator[Row]:
    """The files of the shards as the search leaves them. Of the seconds, those of writing count."""
    planned, draw, wall, cpu = ws.planned["iteration_1/trees"], random.Random(0), 0.0, 0.0
    with ws.artifacts.parts(planned.asset, planned.fingerprint) as parts:
        for index, keys in enumerate(trees.shards(ws, 1)):
            grown = [grow_tree(example(key), draw) for key in keys]
            start = time.perf_counter(), time.process_time()
            nodes = (row for tree in grown for row in node_rows(tree))
            parts.write(nodes_file(index), lambda path, rows=nodes: write_table_file(path, NODES, rows))
            found = [tree_row(tree, ws.planned[policy_before(1)].fingerprint) for tree in grown]
            parts.write(trees_file(index), lambda path, rows=found: write_table_file(path, TREES, rows))
            wall, cpu = wall + time.perf_counter() - start[0], cpu + time.process_time() - start[1]
    yield {"name": "writing", "wall_s": wall, "cpu_s": cpu}


def timed(name: str, work: Callable[[], object]) -> Row:
    """The line of one piece of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"name": name, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def gather(ws: Workspace) -> Iterator[Row]:
    yield timed("gathering and loading", lambda: trees.gather(ws, 1))


def load(ws: Workspace) -> Iterator[Row]:
    yield timed("loading into a new database", lambda: trees.gather(beside(ws), 1))


def load_again(ws: Workspace) -> Iterator[Row]:
    yield timed("the same run again", lambda: trees.gather(beside(ws), 1))


def beside(ws: Workspace) -> Workspace:
    """The same with another database."""
    return replace(ws, records=DatabaseRecords(Database(ws.paths.root / "beside.duckdb")))


def make_pairs(ws: Workspace) -> Iterator[Row]:
    yield timed("pairs, made and loaded", lambda: pairs.pairs(ws, 1))


def ask(ws: Workspace) -> Iterator[Row]:
    """Each question with the opening of the file."""
    with database_of(ws).read() as connection:
        found = connection.execute("SELECT max(pair_id) FROM pairs WHERE kept").fetchone()
    assert found is not None
    for name, sql in QUESTIONS.items():

        def answer(sql: str = sql) -> None:
            with database_of(ws).read() as connection:
                connection.execute(sql, {"pair": found[0]} if "$pair" in sql else None).fetchall()

        yield timed(name, answer)


def to_notebook(ws: Workspace) -> Iterator[Row]:
    yield timed("all pairs as a DataFrame", lambda: frames.load_pairs("hand", storage=ws.paths.root))
    yield timed("all nodes as a DataFrame", lambda: frames.load_nodes("hand", storage=ws.paths.root))


STEPS: Mapping[str, Callable[[Workspace], Iterator[Row]]] = {
    step.__name__: step for step in (search, gather, load, load_again, make_pairs, ask, to_notebook)
}


def run_step(name: str, root: Path) -> None:
    """One step in this process: its lines with the peak of the memory so far, as JSON on standard output."""
    ws = workspace(root)
    for row in STEPS[name](ws):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
        size = ws.paths.database.stat().st_size / MEGABYTE
        print(json.dumps({**row, "peak_memory_mb": peak, "database_mb": size}), flush=True)


def million_rows(nodes: int = MILLION) -> Iterator[Row]:
    """A line for each step and question, as they end."""
    with tempfile.TemporaryDirectory(dir=storage_paths().root, prefix="rows-") as folder:
        root = Path(folder) / "storage"
        root.mkdir()
        prepare(workspace(root), nodes // NODES_A_TREE)
        for name in STEPS:
            command = [sys.executable, "-m", "itool_pipeline_tests.bench.rows", name, str(root)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                yield from map(json.loads, process.stdout)
            assert process.returncode == 0, name


def main(nodes: int) -> None:
    for row in million_rows(nodes):
        print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else str(value) for key, value in row.items()))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in STEPS:
        run_step(sys.argv[1], Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else MILLION)

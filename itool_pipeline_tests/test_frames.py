"""DataFrames for notebooks, over rows written by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from itool_pipeline import frames
from itool_pipeline.commands.scores import print_scores
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.database import Database
from itool_pipeline_tests.store.by_hand import A, B, C, D, E, artifact, load, rows

EXAMPLES, TREES, PAIRS, SCORED, REPORT = A, B, C, D, E
QUOTED = "it's"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments that share one example, one tree of two nodes and one pair; one of them was scored."""
    storage = tmp_path_factory.mktemp("storage")
    database = Database(storage / "itool.duckdb")
    example = {"example_id": "e1", "question": "How late?", "tools": json.dumps([{"name": "clock"}])}
    load(database, "examples", EXAMPLES, rows(database, "examples", example))
    nodes = [{"tree_id": "t1", "node_id": n, "token_ids": [n, n + 1]} for n in (1, 0)]
    tree = {"tree_id": "t1", "example_id": "e1"}
    database.replace_many({"trees": rows(database, "trees", tree), "nodes": rows(database, "nodes", *nodes)}, TREES)
    pair = {"pair_id": "p1", "tree_id": "t1", "node_id": 0, "chosen_node": 1, "rejected_node": 1}
    load(database, "pairs", PAIRS, rows(database, "pairs", pair))
    scored = {"checkpoint": "base", "benchmark": "bfcl", "category": "simple_python"}
    score = {**scored, "correct": 3, "total": 4}
    cases = [{**scored, "case_id": f"c{n}", "correct": n > 0, "mistake": None if n else "wrong_value"} for n in (1, 0)]
    load(database, "scores", SCORED, rows(database, "scores", score))
    load(database, "cases", SCORED, rows(database, "cases", *cases))
    between = {"benchmark": "bfcl", "first_checkpoint": "warmup", "second_checkpoint": "last"}
    figures = {"gained": 20, "lost": 5, "low": 0.0277, "high": 0.1157, "p_value": 0.00408}
    load(database, "comparisons", REPORT, rows(database, "comparisons", {**between, **figures}))
    made = (
        artifact("examples", EXAMPLES),
        artifact("iteration_1/trees", TREES, examples=EXAMPLES),
        artifact("iteration_1/pairs", PAIRS, iteration_1__trees=TREES),
        artifact("bfcl/base", SCORED),
        artifact("report", REPORT),
    )
    config = load_experiment("demo")
    for name, count in (("demo", 5), (QUOTED, 3)):
        database.record_experiment(name, "by hand", config, [one.asset for one in made])
        for one in made[:count]:
            database.record_materialization(name, one, run_id="run-1", reused=False)
    return storage


@pytest.fixture(autouse=True)
def storage(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ITOOL_STORAGE", str(filled))
    return filled


def records(frame: pd.DataFrame, *columns: str) -> list[tuple[object, ...]]:
    return list(frame[list(columns)].itertuples(index=False, name=None))


def test_pairs_of_one_experiment_or_of_all() -> None:
    assert records(frames.load_pairs(QUOTED), "experiment", "pair_id", "question") == [(QUOTED, "p1", "How late?")]
    assert (
        list(frames.load_pairs()["experiment"])
        == ["demo", QUOTED]
        == list(frames.load_pairs("demo", QUOTED)["experiment"])
    )


def test_trees_and_their_nodes_in_order() -> None:
    assert records(frames.load_trees("demo"), "asset", "tree_id", "example_id") == [("iteration_1/trees", "t1", "e1")]
    nodes = frames.load_nodes("demo")
    assert list(nodes["node_id"]) == [0, 1]
    assert [list(ids) for ids in nodes["token_ids"]] == [[0, 1], [1, 2]]


def test_json_is_decoded() -> None:
    (tools,) = frames.load_examples("demo")["tools"]
    assert tools == [{"name": "clock"}]
    assert frames.load_examples("demo")["gold"].isna().all()
    assert frames.load_experiments()["config"][0]["model"]["type"] == "smollm2_wheel"


def test_scores() -> None:
    assert records(frames.load_leaderboard(), "experiment", "checkpoint", "correct", "total") == [
        ("demo", "base", 3, 4)
    ]
    assert records(frames.load_cases("demo"), "case_id", "correct") == [("c0", False), ("c1", True)]
    assert records(frames.load_error_types("demo"), "mistake", "cases") == [("wrong_value", 1)]
    assert records(frames.load_learning_curve("demo"), "checkpoint", "accuracy") == [("base", 0.75)]
    assert len(frames.load_cost("demo")) == 5
    assert frames.load_leaderboard(QUOTED).empty


def test_a_question_with_parameters() -> None:
    sql = "SELECT pair_id, $n AS n FROM pair_lineage WHERE experiment = $experiment"
    assert records(frames.query_frame(sql, experiment=QUOTED, n=3), "pair_id", "n") == [("p1", 3)]
    assert frames.query_frame(sql, experiment="' OR true --", n=3).empty


@pytest.mark.parametrize(("experiment", "rows"), [("demo", 1), (QUOTED, 0)])
def test_the_command_line_asks_for_an_experiment_of_any_name(
    experiment: str, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(experiment, ["bfcl"])
    said = capsys.readouterr().out
    assert said.count("\nbase ") == rows == said.count("75.0%")
    assert ("simple_python" in said) == (rows > 0)
    differences = [line.split() for line in said.splitlines() if line.startswith("warmup ")]
    assert differences == [["warmup", "last", "bfcl", "20", "5", "+2.8", "to", "+11.6%", "0.0041"]] * rows


def test_without_a_benchmark_there_is_nothing_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores("demo", [])
    assert capsys.readouterr().out == "\nNothing was scored: the experiment asks for no benchmark (evaluation).\n"


def test_a_storage_may_be_named(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITOOL_STORAGE", str(storage / "elsewhere"))
    with pytest.raises(StorageError, match="no database yet; run an experiment first"):
        frames.load_pairs("demo")
    assert len(frames.load_pairs("demo", storage=storage)) == 1
    assert not (storage / "elsewhere").exists()


def test_nothing_is_written(storage: Path) -> None:
    with pytest.raises(StorageError, match="read-only"):
        frames.query_frame("DELETE FROM pairs")


def test_an_unknown_experiment_is_named_beside_the_known() -> None:
    with pytest.raises(StorageError, match="no experiment dmo was run here; there are: demo, it's"):
        frames.load_cases("demo", "dmo")


def test_what_duckdb_refuses_is_said() -> None:
    with pytest.raises(StorageError, match="nowhere"):
        frames.query_frame("FROM nowhere")


def test_without_pandas_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(frames.NotebookError, match=r"pip install -c constraints.txt -e '\.\[notebook\]'"):
        frames.load_cost()

"""What a round of the search bench reports, on a tiny model; and its rows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from itool_pipeline.core.policy import Policy
from itool_pipeline.core.reward import GradePrompt, SearchProblem
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline_tests.bench.counting import ColumnCounter
from itool_pipeline_tests.bench.flops import model_size
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.naive_search import NaivePolicy
from itool_pipeline_tests.bench.report import machine_text, table_text, write_rows
from itool_pipeline_tests.bench.search import play_search, search_row, summed
from itool_pipeline_tests.bench.worker import Figures, Finished, Turns
from itool_pipeline_tests.bench.workload import Workload, bench_experiment
from itool_pipeline_tests.core.fake_policy import call_problem
from itool_pipeline_tests.engines.test_transformers_engine import ids

END = 2
MACHINE = Machine("a processor", 2, "2.13", "float32", 100.0)
BENCHED = bench_experiment()
SMALL = BENCHED.search.model_copy(update={"depth": 2, "iterations": 2, "simulation": 1, "max_fragment_tokens": 6})
WORKLOAD = Workload(BENCHED.model_copy(update={"search": SMALL}), Path("nowhere"), ())
ROUND: Figures = {
    "wall_s": 4.0,
    "cpu_s": 7.0,
    "trees": 2,
    "nodes": 40,
    "pairs": 2,
    "columns": 1600,
    "needed": 1000,
    "flops": 2e11,
    "peak_memory_mb": 900.0,
}

MakePolicy = Callable[[LoadedModel], Policy]


def problem(number: int) -> SearchProblem:
    example = replace(call_problem().example, id=str(number))
    grade = GradePrompt(ids(30, number), ids(5, 3), (40, 41, 42, 43))
    return SearchProblem(example, ids(20, number), grade)


def own(loaded: LoadedModel) -> Policy:
    return TransformersEngine(loaded, WORKLOAD.rule, WORKLOAD.sampling, end_token=END, end_tokens=frozenset({END}))


def naive(loaded: LoadedModel) -> Policy:
    return NaivePolicy(loaded, WORKLOAD.rule, WORKLOAD.sampling, end_token=END)


@pytest.mark.parametrize("make", [own, naive])
def test_nobody_computes_fewer_columns_than_are_needed(loaded: LoadedModel, make: MakePolicy) -> None:
    said, size, counter = io.StringIO(), model_size(loaded.model), ColumnCounter(loaded.model)
    problems = [problem(number) for number in range(2)]
    turns = Turns(io.StringIO("go\ngo\n"), said)
    with pytest.raises(Finished):
        play_search(WORKLOAD, size, counter, lambda: make(loaded), lambda number: problems[: number + 1], turns)
    first, second = (json.loads(line) for line in said.getvalue().splitlines()[1:])
    assert (first["trees"], second["trees"]) == (1, 2)
    for figures in (first, second):
        assert figures["nodes"] > 3 * figures["trees"]
        assert figures["columns"] >= figures["needed"] > 50 * figures["trees"]
        assert figures["flops"] > 2 * size.parameters * figures["needed"]
    assert second["needed"] > 1.5 * first["needed"]
    assert second["columns"] > first["columns"]


def test_a_row_has_rates_and_the_share_of_the_matrix_rate() -> None:
    row = search_row("ours", ROUND, MACHINE)
    assert row["distinct_scored_nodes_per_s"] == 10.0
    assert row["usable_pairs_per_s"] == 0.5
    assert row["columns_per_node"] == 40.0
    assert row["matrix_rate_share"] == 0.5  # 50 of 100 GFLOP/s
    assert (row["tokens_computed"], row["columns_needed"], row["peak_memory_mb"]) == (1600, 1000, 900.0)


def test_rounds_that_do_different_work_are_summed_up() -> None:
    total = summed([ROUND, {**ROUND, "wall_s": 6.0, "peak_memory_mb": 950.0}])
    assert (total["wall_s"], total["nodes"], total["peak_memory_mb"]) == (10.0, 80, 950.0)
    assert search_row("naive", total, MACHINE)["distinct_scored_nodes_per_s"] == 8.0


def test_rows_are_a_table_for_people_and_json_for_others(tmp_path: Path) -> None:
    rows = [{"name": "ours", "wall_s": 4.0, "nodes": 40}, {"name": "naive", "wall_s": 123.456, "pairs": None}]
    assert table_text(rows).splitlines() == [
        "name   wall_s  nodes  pairs",
        "-----  ------  -----  -----",
        "ours        4     40  -",
        "naive     123      -  -",
    ]
    assert machine_text(MACHINE) == "a processor, 2 cores, torch 2.13, float32, matrix products 100 GFLOP/s"
    write_rows(tmp_path / "bench" / "search.json", MACHINE, rows, ["vllm is left out"])
    written = json.loads((tmp_path / "bench" / "search.json").read_text())
    assert written["rows"] == rows
    assert written["machine"]["matrix_gflops"] == 100.0
    assert written["notes"] == ["vllm is left out"]

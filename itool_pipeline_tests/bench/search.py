"""The search of the demo's questions: our engine with trees side by side, and a naive search of one tree at a time.

Both run the same algorithm (`core.search`) with the same settings, seed and requests; the naive one draws by random
numbers of its own, so its trees are others. It is measured on fewer trees, one a round, with prompts of short, ordinary
and long length; its rounds are summed up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.policy import Policy
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.search import search_trees
from itool_pipeline.engines.model import LoadedModel
from itool_pipeline.engines.transformers_engine import TransformersEngine
from itool_pipeline.judges.rule_judge import RuleJudge
from itool_pipeline.steps.forecast.flops import ModelSize, forward_flops
from itool_pipeline_tests.bench.contenders import Contender, compare, median_round
from itool_pipeline_tests.bench.counting import ColumnCounter, WatchedPolicy, distinct_nodes, usable_pairs
from itool_pipeline_tests.bench.flops import model_size
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.naive_search import NaivePolicy
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.vllm_search import VllmContender
from itool_pipeline_tests.bench.worker import Figures, Options, Turns
from itool_pipeline_tests.bench.workload import (
    Workload,
    bench_folder,
    load_workload,
    policy_model,
    stand_in,
)

TREES, ROUNDS = 24, 3
BESIDE = "BESIDE"
"""An environment variable: the directory of another version of the project, whose search takes part as `beside`."""
VLLM_PYTHON = "VLLM_PYTHON"
"""An environment variable: the Python of the environment that vLLM is installed in, if it has one of its own."""


def search_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """One row for each contender."""
    options = {"dtype": machine.dtype, "adapter": str(stand_in(workload)), "trees": TREES}
    contenders = [Contender("ours", play_ours, options), Contender("naive", play_naive, options)]
    if vllm_python():
        contenders.append(Contender("vllm", play_vllm, options, python=vllm_python()))
    if os.environ.get(BESIDE):
        contenders.append(Contender("beside", play_ours, options, checkout=Path(os.environ[BESIDE])))
    found = compare(
        contenders,
        rounds=ROUNDS,
        warm_ups=0,
        logs=bench_folder() / "logs" / "search",
    )
    rows = {name: summed(rounds) if name == "naive" else median_round(rounds) for name, rounds in found.items()}
    rates = {name: figures["nodes"] / figures["wall_s"] for name, figures in rows.items()}
    for name, figures in rows.items():
        yield search_row(name, figures, machine) | {"times_naive": rates[name] / rates["naive"], "rounds": ROUNDS}


def missing_contenders() -> list[str]:
    """In words, who is not measured here."""
    return [] if vllm_python() else [f"vllm is left out: it is not installed, and {VLLM_PYTHON} names no environment"]


def vllm_python() -> str | None:
    """The interpreter that has vLLM: the one that VLLM_PYTHON names, or this one; None when there is none."""
    return os.environ.get(VLLM_PYTHON) or (sys.executable if find_spec("vllm") else None)


def search_row(name: str, figures: Figures, machine: Machine) -> Row:
    """The figures of one contender as they stand in the table."""
    wall, nodes = figures["wall_s"], figures["nodes"]
    return {
        "name": name,
        "wall_s": wall,
        "cpu_s": figures["cpu_s"],
        "trees": int(figures["trees"]),
        "nodes": int(nodes),
        "distinct_scored_nodes_per_s": nodes / wall,
        "usable_pairs_per_s": figures["pairs"] / wall,
        "tokens_computed": int(figures["columns"]),
        "columns_per_node": figures["columns"] / nodes,
        "columns_needed": int(figures["needed"]),
        "matrix_rate_share": figures["flops"] / wall / (machine.matrix_gflops * 1e9),
        "peak_memory_mb": figures["peak_memory_mb"],
    }


def summed(rounds: Sequence[Figures]) -> Figures:
    """Rounds that do different work, taken together."""
    total = {name: sum(figures[name] for figures in rounds) for name in rounds[0]}
    return total | {"peak_memory_mb": max(figures["peak_memory_mb"] for figures in rounds)}


def play_ours(options: Options, turns: Turns) -> None:
    """All trees in each round, by a new engine as each shard has."""
    workload = load_workload()
    loaded = policy_model(Path(options["adapter"]), options["dtype"])
    by_length = sorted(workload.problems(options["trees"]), key=lambda problem: len(problem.prompt))
    problems = by_length[options.get("first", 0) :: options.get("every", 1)]
    play_search(*_measured(workload, loaded), lambda: own_engine(workload, loaded), lambda number: problems, turns)


def own_engine(workload: Workload, loaded: LoadedModel) -> TransformersEngine:
    """As the product makes one for each shard and each scoring."""
    compute = workload.experiment.compute
    return TransformersEngine(
        loaded,
        workload.rule,
        workload.sampling,
        end_token=workload.chat().end_token,
        end_tokens=loaded.end_tokens,
        batch_tokens=compute.batch_tokens,
        cache_bytes=int(compute.prefix_cache_gib * 2**30),
    )


def play_naive(options: Options, turns: Turns) -> None:
    """One tree in each round."""
    workload = load_workload()
    loaded = policy_model(Path(options["adapter"]), options["dtype"])
    policy = NaivePolicy(loaded, workload.rule, workload.sampling, end_token=workload.chat().end_token)
    by_length = sorted(workload.problems(options["trees"]), key=lambda problem: len(problem.prompt))
    chosen = [by_length[(2 * i + 1) * len(by_length) // (2 * ROUNDS)] for i in range(ROUNDS)]
    play_search(*_measured(workload, loaded), lambda: policy, lambda number: [chosen[number % ROUNDS]], turns)


def _measured(workload: Workload, loaded: LoadedModel) -> tuple[Workload, ModelSize, ColumnCounter]:
    return workload, model_size(loaded.model), ColumnCounter(loaded.model)


def play_vllm(options: Options, turns: Turns) -> None:
    """All trees in each round, on a vLLM that keeps running and has the stand-in as an adapter."""
    workload = load_workload()
    problems = workload.problems(options["trees"])
    with closing(VllmContender(workload, Path(options["adapter"]), options["dtype"])) as vllm:
        play_search(workload, vllm.size, vllm, vllm.policy, lambda number: problems, turns, vllm.memory)


class Counter(Protocol):
    """Counts token columns that are computed."""

    columns: int


def play_search(
    workload: Workload,
    size: ModelSize,
    counter: Counter,
    engine: Callable[[], Policy],
    problems_of: Callable[[int], Sequence[SearchProblem]],
    turns: Turns,
    memory: Callable[[], Figures] = dict,
) -> None:
    """A round searches the trees that `problems_of` gives for its number, by a policy that `engine` makes for it.

    memory  of all processes, where the work is not done in this one
    """
    number = 0
    while True:
        turns.await_turn()
        problems, before = problems_of(number), counter.columns
        policy = WatchedPolicy(engine())
        trees = search_trees(problems, policy, RuleJudge(BFCL_RULES), workload.search, seed=workload.experiment.seed)
        turns.stop_clock()
        needed = policy.needed_work()
        turns.report(
            trees=len(trees),
            nodes=distinct_nodes(trees),
            pairs=usable_pairs(trees, workload.experiment.pairs),
            columns=counter.columns - before,
            needed=needed.columns,
            flops=forward_flops(size, needed),
            **memory(),
        )
        number += 1

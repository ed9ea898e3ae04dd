"""The asset graph: one asset for each step of an experiment, iterations unrolled.

Assets depend on each other for order and lineage only; a step finds its inputs by fingerprint. An experiment with
fewer iterations, or without a benchmark, yields nothing for what it lacks, and Dagster skips what is downstream.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import MAX_ITERATIONS
from itool_pipeline.defs.errors import explained
from itool_pipeline.defs.metadata import data_version, shown
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.resources import GPU_POOL, RunOptions, workspace
from itool_pipeline.defs.sources import sources_of
from itool_pipeline.steps import pairs, policy, prepare, replay_buffer, warmup
from itool_pipeline.steps.asset_graph import ON_REQUEST, STAGES, cases_asset, checkpoints, inputs_of
from itool_pipeline.steps.cases import benchmark_cases
from itool_pipeline.steps.plan import code_version
from itool_pipeline.steps.scoring import score_checkpoint
from itool_pipeline.steps.workspace import Produced, Workspace

Body = Callable[[Workspace], Produced]


def asset_key(asset: str) -> dg.AssetKey:
    """`iteration_1/pairs` → AssetKey(["iteration_1", "pairs"])."""
    return dg.AssetKey(asset.split("/"))


def op_name(asset: str) -> str:
    """`iteration_1/pairs` → `iteration_1__pairs`, as names of ops and of their inputs have no slash."""
    return asset.replace("/", "__")


def group_of(asset: str) -> str:
    """The group that the UI shows the asset in."""
    if asset in ("champion", "report"):
        return "report"
    return asset.partition("/")[0] if "/" in asset or asset in ON_REQUEST else "data"


def step_asset(asset: str, body: Body, description: str, *, uses_model: bool = False) -> dg.AssetsDefinition:
    """An asset whose body is one step."""

    @dg.asset(
        key=asset_key(asset),
        deps=[*(asset_key(name) for name in inputs_of(asset)), *sources_of(asset)],
        partitions_def=experiments,
        group_name=group_of(asset),
        description=description,
        code_version=code_version(asset),
        output_required=False,
        pool=GPU_POOL if uses_model else None,
        kinds={"python", "torch"} if uses_model else {"python", "duckdb"},
    )
    def made(context: dg.AssetExecutionContext, options: RunOptions) -> Iterator[dg.MaterializeResult[Any]]:
        ws = workspace(context, options)
        if ws.has(asset):
            with explained():
                produced = body(ws)
            yield dg.MaterializeResult(metadata=shown(produced), data_version=data_version(produced))
        else:
            context.log.info(f"experiment {ws.experiment.name} has no {asset}")

    return made


def _warmup(stage: str) -> dg.AssetsDefinition:
    return step_asset(
        f"warmup/{stage}",
        lambda ws: warmup.warmup(ws, stage),
        f"LoRA adapter after supervised fine-tuning on the {stage} examples (Section 3.1, Eq. 2), or what the "
        "experiment's curriculum makes of this stage.",
        uses_model=True,
    )


def _iteration(k: int) -> list[dg.AssetsDefinition]:
    """All of iteration k but its trees, which fan out (see `graphs.py`)."""
    return [
        step_asset(
            f"iteration_{k}/replay_buffer",
            lambda ws: replay_buffer.replay_buffer(ws, k),
            "Perplexity of the buffer's gold responses under the newest policy; the hardest are searched (Eq. 4).",
            uses_model=True,
        ),
        step_asset(
            f"iteration_{k}/pairs",
            lambda ws: pairs.pairs(ws, k),
            "Best and worst child of each node, or all that differ enough, and the filters (Section 3.2, App. B.1).",
        ),
        step_asset(
            f"iteration_{k}/policy",
            lambda ws: policy.policy(ws, k),
            "LoRA adapter after preference optimisation on the pairs (Eq. 10 and 11).",
            uses_model=True,
        ),
    ]


def _benchmark(benchmark: Benchmark[Any]) -> list[dg.AssetsDefinition]:
    """The benchmark's cases, and the scores of every checkpoint; of an experiment that does not ask for it, none."""
    return [
        step_asset(cases_asset(benchmark.name), lambda ws: benchmark_cases(ws, benchmark), benchmark.about),
        *(
            step_asset(
                f"{benchmark.name}/{name}",
                lambda ws, name=name: score_checkpoint(ws, benchmark, name),  # type: ignore[misc]
                f"The answers of the model at {asset} to {benchmark.title}, decided.",
                uses_model=True,
            )
            for name, asset in checkpoints().items()
        ),
    ]


def all_step_assets() -> list[dg.AssetsDefinition]:
    """Every asset but those in `graphs.py`."""
    return [
        step_asset("base_model", prepare.base_model, "The base model in safetensors, with its tokenizer."),
        step_asset(
            "examples",
            prepare.examples,
            "Examples to train on; rows left out, with reasons.",
        ),
        step_asset(
            "splits",
            prepare.splits,
            "Training and validation parts, difficulty (Eq. 1), and the replay buffer's random part.",
        ),
        *(_warmup(stage) for stage in STAGES),
        *(asset for k in range(1, MAX_ITERATIONS + 1) for asset in _iteration(k)),
        *(asset for benchmark in BENCHMARKS for asset in _benchmark(benchmark)),
    ]

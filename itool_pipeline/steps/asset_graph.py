"""The asset graph: which assets an experiment has, and what each is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import CHECKPOINTS, MAX_ITERATIONS, EndpointModel, Experiment, Grpo, checkpoints_of

STAGES = ("easy", "medium", "hard")
"""Warm-up stages in their order (Section 3.1)."""

ON_REQUEST = ("exported_model",)
"""Assets that no run makes unless it is asked for them: they are as large as the model, and nothing is made of them."""

ALL = tuple(benchmark.name for benchmark in BENCHMARKS)
"""The names of all benchmarks."""

BY_NAME: Mapping[str, Benchmark[Any]] = {benchmark.name: benchmark for benchmark in BENCHMARKS}


def checkpoints(iterations: int = MAX_ITERATIONS) -> dict[str, str]:
    """Name → asset of each checkpoint that can be scored, first to last."""
    start = {"base": "base_model", "warmup": "warmup/hard"}
    return {name: start.get(name, f"{name}/policy") for name in checkpoints_of(iterations)}


def policy_before(k: int) -> str:
    """The asset of the policy that iteration k starts from."""
    return "warmup/hard" if k == 1 else f"iteration_{k - 1}/policy"


def cases_asset(benchmark: str) -> str:
    """The asset with the benchmark's cases."""
    return f"{benchmark}_cases"


def asked_benchmarks(experiment: Experiment) -> tuple[Benchmark[Any], ...]:
    """The benchmarks that the experiment asks for."""
    return tuple(benchmark for benchmark in BENCHMARKS if benchmark.settings(experiment) is not None)


def step_kind(asset: str) -> str:
    """Key of CODE_VERSIONS: what kind of step makes the asset."""
    group, _, name = asset.partition("/")
    if group in ALL:
        return "scores"
    if group.removesuffix("_cases") in ALL:
        return "cases"
    return "warmup" if group == "warmup" else name or group


def trained_stages(experiment: Experiment) -> tuple[str, ...]:
    """Warm-up stages that train; the others pass on the checkpoint before them (Section 4.3.1, w/o warm-up; Fig. 5)."""
    if experiment.warmup.adapter is not None:
        return ()
    return {
        "easy_to_hard": STAGES,
        "easy_to_medium": STAGES[:2],
        "easy": STAGES[:1],
        "mixed": STAGES[-1:],
        "none": (),
    }[experiment.warmup.curriculum]


def passes_on(experiment: Experiment, asset: str) -> bool:
    """Whether the asset is a warm-up stage that trains nothing."""
    return asset.startswith("warmup/") and asset.removeprefix("warmup/") not in trained_stages(experiment)


def takes_adapter(experiment: Experiment, asset: str) -> bool:
    """Whether the asset is the user's own adapter: the warm-up's last stage, where the config names one."""
    return asset == f"warmup/{STAGES[-1]}" and experiment.warmup.adapter is not None


def reads_trees(experiment: Experiment, asset: str) -> bool:
    """Whether the asset is a policy by GRPO: it trains on the trees' examples, and generates as much as they cost."""
    return step_kind(asset) == "policy" and isinstance(experiment.preference.loss, Grpo)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an experiment has of the graph: so many iterations, and these checkpoints scored on these benchmarks.

    Of a model that is only asked, which is not `trained`, there is neither data nor warm-up.
    """

    iterations: int
    benchmarks: tuple[str, ...]
    scored: tuple[str, ...]
    trained: bool = True

    @staticmethod
    def of(experiment: Experiment) -> Shape:
        benchmarks = tuple(benchmark.name for benchmark in asked_benchmarks(experiment))
        trained = not isinstance(experiment.model, EndpointModel)
        return Shape(experiment.iterations, benchmarks, experiment.scored_checkpoints(), trained)


WHOLE = Shape(MAX_ITERATIONS, ALL, CHECKPOINTS)
"""The graph that Dagster sees."""


def scores_of(shape: Shape = WHOLE) -> tuple[str, ...]:
    """The assets that score a checkpoint on a benchmark."""
    return tuple(f"{benchmark}/{name}" for benchmark in shape.benchmarks for name in shape.scored)


def started_from(scores: str) -> str | None:
    """Of the scores of an iteration: those of the checkpoint that it started from; None of any other."""
    benchmark, _, name = scores.partition("/")
    names = list(checkpoints())
    return f"{benchmark}/{names[names.index(name) - 1]}" if name.startswith("iteration_") else None


def inputs_of(asset: str, shape: Shape = WHOLE) -> tuple[str, ...]:
    """The assets that `asset` is made from; the edges of the graph in DESIGN's order."""
    group, _, name = asset.partition("/")
    if group == "warmup":
        before = STAGES[: STAGES.index(name)][-1:]
        return ("base_model", "examples", "splits", *(f"warmup/{stage}" for stage in before))
    if step_kind(asset) == "scores":
        return ("base_model", cases_asset(group), *({checkpoints()[name]} - {"base_model"}))
    if step_kind(asset) == "cases":
        return ("base_model",)
    if group.startswith("iteration_"):
        k = int(group.removeprefix("iteration_"))
        policy = policy_before(k)
        return {
            "replay_buffer": ("base_model", "examples", "splits", policy),
            "trees": ("base_model", "examples", policy, f"{group}/replay_buffer"),
            "pairs": ("examples", f"{group}/trees"),
            "policy": ("base_model", "examples", "splits", policy, f"{group}/pairs"),
        }[name]
    iterations = range(1, shape.iterations + 1)
    return {
        "base_model": (),
        "examples": ("base_model",),
        "splits": ("examples",),
        "champion": scores_of(shape),
        "report": (
            *scores_of(shape),
            *(f"iteration_{k}/{step}" for k in iterations for step in ("trees", "pairs")),
        ),
        "exported_model": (
            *("base_model", "examples", "splits", "warmup/hard"),
            *(f"iteration_{k}/{step}" for k in iterations for step in ("pairs", "policy")),
            *scores_of(shape),
        ),
    }[asset]


def assets_of(shape: Shape = WHOLE) -> tuple[str, ...]:
    """All assets of an experiment of this shape, every one after its inputs."""
    steps = ("replay_buffer", "trees", "pairs", "policy")
    unrolled = [f"iteration_{k}/{step}" for k in range(1, shape.iterations + 1) for step in steps]
    cases, data = map(cases_asset, shape.benchmarks), ("examples", "splits") if shape.trained else ()
    warmup = (f"warmup/{stage}" for stage in STAGES if shape.trained)
    scores = scores_of(shape)
    champion = ("champion",) if scores else ()
    return ("base_model", *data, *cases, *warmup, *unrolled, *scores, *champion, "report")

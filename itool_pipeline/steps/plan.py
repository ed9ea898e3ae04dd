"""The asset graph of one experiment, and the fingerprint of everything in it before anything runs.

A fingerprint is made from the step's config section, its code version and its inputs' fingerprints, so it is known
from the config alone: steps find their inputs by it, and experiments that agree up to a step share the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import (
    CHECKPOINTS,
    MAX_ITERATIONS,
    BenchmarkConfig,
    BfclHalfData,
    DataLimits,
    EndpointModel,
    Experiment,
    Grpo,
    JsonlData,
    PromptConfig,
    checkpoints_of,
)
from itool_pipeline.data.layouts import CHAT, layout_as_it_stands
from itool_pipeline.data.own_adapter import adapter_content
from itool_pipeline.data.wheels import BFCL, SMOLLM2
from itool_pipeline.files.hashes import file_sha256
from itool_pipeline.store.manifest import Origin

STAGES = ("easy", "medium", "hard")
"""Warm-up stages in their order (Section 3.1)."""

CODE_VERSIONS = {
    "base_model": "1",
    "examples": "10",
    "splits": "7",
    "warmup": "4",
    "replay_buffer": "5",
    "trees": "10",
    "pairs": "5",
    "policy": "7",
    "cases": "4",
    "scores": "4",
    "champion": "1",
    "report": "10",
    "exported_model": "4",
}
"""Raised by hand when a change of code changes what a step produces; the artifacts made before are then not reused.

`cases` and `scores` are what benchmarks share; each has versions of its own beside them.
"""

ON_REQUEST = ("exported_model",)
"""Assets that no run makes unless it is asked for them: they are as large as the model, and nothing is made of them."""

ALL = tuple(benchmark.name for benchmark in BENCHMARKS)
"""The names of all benchmarks."""

BY_NAME: Mapping[str, Benchmark[Any]] = {benchmark.name: benchmark for benchmark in BENCHMARKS}


@dataclass(frozen=True, slots=True)
class Planned:
    """One asset of an experiment: its inputs (asset → fingerprint), code version and config, and its fingerprint."""

    asset: str
    origin: Origin
    fingerprint: str


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


def code_version(asset: str) -> str:
    """The version of the code that makes the asset; of a benchmark's, that of its own code is a part."""
    kind, shared = step_kind(asset), CODE_VERSIONS[step_kind(asset)]
    if kind == "scores":
        return f"{shared}.{BY_NAME[asset.partition('/')[0]].scores_version}"
    if kind == "cases":
        return f"{shared}.{BY_NAME[asset.removesuffix('_cases')].cases_version}"
    return shared


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


def plan(experiment: Experiment) -> dict[str, Planned]:
    """Every asset of the experiment with its fingerprint, inputs first."""
    planned: dict[str, Planned] = {}
    shape, content = Shape.of(experiment), data_content(experiment)
    for asset in assets_of(shape):
        inputs = {name: planned[name].fingerprint for name in inputs_of(asset, shape)}
        section = _section(experiment, asset, content)
        if passes_on(experiment, asset):  # neither data nor settings matter to it
            del inputs["examples"], inputs["splits"]
            section = {"passes_on": True}
            if takes_adapter(experiment, asset):
                section = {"adapter": adapter_content(experiment.warmup.adapter or "")}
        if reads_trees(experiment, asset):  # which come before the pairs, which the graph has it wait for
            trees = asset.replace("/policy", "/trees")
            inputs[trees] = planned[trees].fingerprint
            section = {**section, "search": experiment.search}
        if experiment.prompt.thinking and step_kind(asset) == "policy":  # which trains behind what was thought there
            buffer = asset.replace("/policy", "/replay_buffer")
            inputs[buffer] = planned[buffer].fingerprint
        if asset.endswith("/pairs") and experiment.prompt.calls == "auto":  # the template says how calls are written
            inputs["base_model"] = planned["base_model"].fingerprint
        origin = Origin(inputs=inputs, code_version=code_version(asset), config=section)
        planned[asset] = Planned(asset, origin, origin.fingerprint(asset))
    return planned


def plan_on_request(experiment: Experiment, planned: Mapping[str, Planned]) -> dict[str, Planned]:
    """Of an experiment that is planned, the assets that are made on request alone."""
    made = {}
    for asset in ON_REQUEST if Shape.of(experiment).trained else ():
        inputs = {name: planned[name].fingerprint for name in inputs_of(asset, Shape.of(experiment))}
        # All of the config, as the model card shows it.
        origin = Origin(inputs=inputs, code_version=code_version(asset), config=experiment.model_dump(mode="json"))
        made[asset] = Planned(asset, origin, origin.fingerprint(asset))
    return made


def _section(e: Experiment, asset: str, content: str) -> Mapping[str, Any]:
    """The part of the config that decides what `asset` is; `content` stands for the local data.

    A step reads of the config what stands here for its kind, and nothing else: no guard watches this.
    """
    kind = step_kind(asset)
    if kind == "cases":
        return {"source": BY_NAME[asset.removesuffix("_cases")].source(e), "prompt": _prompt_section(e)}
    if kind == "scores":
        return _asked(e, BY_NAME[asset.partition("/")[0]])
    stagewise = e.warmup.curriculum not in ("mixed", "none")
    # A stage is the same wherever the curriculum ends after it.
    warmup = e.warmup.model_copy(update={"curriculum": "easy_to_hard"}) if stagewise else e.warmup
    sections: dict[str, Mapping[str, Any]] = {
        "base_model": _model_section(e),
        "examples": {
            "data": _data_section(e),
            "content": content,
            "wheel": BFCL.sha256 if isinstance(e.data, BfclHalfData) else "",
            "left_out": {benchmark.name: benchmark.source(e) for benchmark in BENCHMARKS if benchmark.reserved},
            "prompt": _prompt_section(e),
            "seed": e.seed,
        },
        "splits": {"split": e.split, "seed": e.seed},
        # An adapter of the user's own trains nothing: it is in what takes it.
        "warmup": {
            "warmup": warmup.model_dump(mode="json", exclude={"adapter"}),
            "seed": e.seed,
            "compute": _numerics(e),
        },
        "replay_buffer": {
            "replay_buffer": e.replay_buffer,
            **({"answers": e.answers_drawn()} if e.replay_buffer.select_by == "mistakes" else {}),
            "seed": e.seed,
            "compute": _inference(e),
            **_thinking(e),
        },
        "trees": {"search": e.search, "seed": e.seed, "compute": _inference(e)},
        # These two decide what checks say.
        "pairs": {"pairs": e.pairs.model_dump(mode="json", exclude={"few", "min_true_share"})},
        "policy": {
            "preference": e.preference,
            **({"answers": _answering(e)} if e.preference.keep == "most_right" else {}),
            "lora": e.warmup.lora,
            # Which pairs validate is drawn of the buffer.
            "buffer_fraction": e.replay_buffer.fraction,
            "validation_fraction": e.split.validation_fraction,
            "seed": e.seed,
            "compute": _numerics(e),
        },
        "champion": {"champion": e.evaluation.champion},
        "report": {"experiment": e.name, "description": e.description},
    }
    return sections[kind]


def _model_section(e: Experiment) -> Mapping[str, Any]:
    """Which model it is. Of a served one, what its user states: that it has changed is seen by no fingerprint."""
    if isinstance(e.model, EndpointModel):
        return {"endpoint": e.model.identity()}
    return {"model": e.model, "wheel": SMOLLM2.sha256 if e.model.type == "smollm2_wheel" else ""}


def _data_section(e: Experiment) -> Mapping[str, Any]:
    """What decides what is read: not the bound on unreadable rows, which decides whether the run goes on.

    Of `jsonl` what a file of chats does without is left out, and `auto` is the layout that it is found to be.
    """
    section = e.data.model_dump(mode="json", exclude={"max_quarantined"})
    if not isinstance(e.data, JsonlData):
        return section
    usual = JsonlData(type="jsonl", path=".").model_dump(mode="json")
    if e.data.layout == "auto" and not e.data.has_names_of_its_own() and e.data.path is not None:
        section["layout"] = layout_as_it_stands(Path(e.data.path).expanduser())
    section["layout"] = usual["layout"] if section["layout"] == CHAT else section["layout"]
    also_before = {"type", "path", *DataLimits.model_fields}
    return {key: value for key, value in section.items() if key in also_before or value != usual[key]}


def _prompt_section(e: Experiment) -> Mapping[str, Any]:
    """What decides how prompts read: thoughts, where the model thinks, but not how long they may get.

    Python's calls are left out: artifacts made before there were others have the fingerprints that they had.
    """
    section = e.prompt.model_dump(mode="json", exclude={"thinking", "max_thinking_tokens", "calls"})
    calls = {} if e.prompt.calls == PromptConfig().calls else {"calls": e.prompt.calls}
    return {**section, **calls, **({"thinking": True} if e.prompt.thinking else {})}


def _thinking(e: Experiment) -> Mapping[str, Any]:
    """What decides the thoughts that are drawn; nothing where none are."""
    return {"max_thinking_tokens": e.prompt.max_thinking_tokens} if e.prompt.thinking else {}


def _asked(e: Experiment, benchmark: Benchmark[Any]) -> Mapping[str, Any]:
    """What is asked of the benchmark, and how; where its cases are from is in the fingerprint of these."""
    settings = benchmark.asked_section(e, BenchmarkConfig)
    asked = settings.model_dump(mode="json", exclude=set(benchmark.source_keys))
    if isinstance(e.model, EndpointModel):  # what it computes on is its own affair
        return {"asked": {key: value for key, value in asked.items() if key != "batch_size"}, "seed": e.seed}
    return {"asked": asked, "seed": e.seed, "compute": _inference(e), **_thinking(e)}


def _answering(e: Experiment) -> Mapping[str, Any]:
    """How whole answers to validation examples are asked for and judged."""
    return {
        "max_response_tokens": e.search.max_response_tokens,
        "judge": e.search.outcome.judge,
        "compute": _inference(e),
        **_thinking(e),
    }


def _numerics(e: Experiment) -> Mapping[str, Any]:
    """Of `compute`, what numbers depend on."""
    return {"device": e.compute.device, "dtype": e.compute.dtype, "batch_tokens": e.compute.batch_tokens}


def _inference(e: Experiment) -> Mapping[str, Any]:
    """The same where an engine samples, scores or answers: two engines round differently. Training uses none."""
    return {**_numerics(e), "engine": e.compute.engine}


def data_content(experiment: Experiment) -> str:
    """sha256 of a local data file, so that a changed file is new data; empty for data that its revision names."""
    if isinstance(experiment.data, BfclHalfData) or experiment.data.path is None:
        return ""
    path = Path(experiment.data.path).expanduser()
    return file_sha256(path) if path.is_file() else ""  # reading it will say so, with what to do


def local_content(experiment: Experiment) -> str:
    """A text that changes when any local file changes that the experiment reads; empty when it reads none."""
    own = (benchmark.local_content(experiment) for benchmark in asked_benchmarks(experiment))
    return data_content(experiment) + "".join(own)

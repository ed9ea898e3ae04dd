"""Which part of an experiment's config, and of the files that it names, decides what an asset is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import (
    BenchmarkConfig,
    BfclHalfData,
    DataLimits,
    EndpointModel,
    Experiment,
    JsonlData,
    PromptConfig,
)
from itool_pipeline.data.layouts import CHAT, layout_as_it_stands
from itool_pipeline.data.wheels import BFCL, SMOLLM2
from itool_pipeline.files.hashes import file_sha256
from itool_pipeline.steps.asset_graph import BY_NAME, asked_benchmarks, step_kind


def config_section(e: Experiment, asset: str, content: str) -> Mapping[str, Any]:
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

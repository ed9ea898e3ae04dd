"""The asset graph of one experiment, and the fingerprint of everything in it before anything runs.

A fingerprint is made from the step's config section, its code version and its inputs' fingerprints, so it is known
from the config alone: steps find their inputs by it, and experiments that agree up to a step share the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.config import MAX_ITERATIONS, ApiBankConfig, BfclHalfData, Experiment
from itool_pipeline.data.api_bank import source_files
from itool_pipeline.data.wheels import BFCL, SMOLLM2
from itool_pipeline.files.hashes import file_sha256, folder_sha256
from itool_pipeline.store.manifest import Origin

STAGES = ("easy", "medium", "hard")
"""Warm-up stages in their order (Section 3.1)."""

CODE_VERSIONS = {
    "base_model": "1",
    "examples": "6",
    "splits": "3",
    "warmup": "1",
    "replay_buffer": "2",
    "trees": "6",
    "pairs": "3",
    "policy": "1",
    "bfcl": "6",
    "api_bank_cases": "4",
    "api_bank": "3",
    "report": "5",
}
"""Raised by hand when a change of code changes what a step produces; the artifacts made before are then not reused."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One asset of an experiment: its inputs (asset → fingerprint), code version and config, and its fingerprint."""

    asset: str
    origin: Origin
    fingerprint: str


def checkpoints(iterations: int = MAX_ITERATIONS) -> dict[str, str]:
    """Name → asset of each checkpoint that is scored, first to last."""
    trained = {f"iteration_{k}": f"iteration_{k}/policy" for k in range(1, iterations + 1)}
    return {"base": "base_model", "warmup": "warmup/hard", **trained}


def policy_before(k: int) -> str:
    """The asset of the policy that iteration k starts from."""
    return "warmup/hard" if k == 1 else f"iteration_{k - 1}/policy"


def kind(asset: str) -> str:
    """Key of CODE_VERSIONS: what kind of step makes the asset."""
    return asset.split("/")[0] if asset.startswith(("warmup/", "bfcl/", "api_bank/")) else asset.split("/")[-1]


def trained_stages(experiment: Experiment) -> tuple[str, ...]:
    """Warm-up stages that train; the others pass on the checkpoint before them (Section 4.3.1, w/o warm-up; Fig. 5)."""
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


def benchmarks(api_bank: bool = True) -> dict[str, str]:
    """Name → the asset with its cases, of each benchmark that is scored."""
    return {"bfcl": "examples", **({"api_bank": "api_bank_cases"} if api_bank else {})}


def scores_of(iterations: int = MAX_ITERATIONS, api_bank: bool = True) -> tuple[str, ...]:
    """The assets that score a checkpoint on a benchmark."""
    return tuple(f"{benchmark}/{name}" for benchmark in benchmarks(api_bank) for name in checkpoints(iterations))


def inputs_of(asset: str, iterations: int = MAX_ITERATIONS, api_bank: bool = True) -> tuple[str, ...]:
    """The assets that `asset` is made from; the edges of the graph in DESIGN's order."""
    group, _, name = asset.partition("/")
    if group == "warmup":
        before = STAGES[: STAGES.index(name)][-1:]
        return ("base_model", "splits", *(f"warmup/{stage}" for stage in before))
    if group in benchmarks():
        checkpoint = checkpoints(MAX_ITERATIONS)[name]
        return ("base_model", benchmarks()[group], *({checkpoint} - {"base_model"}))
    if group.startswith("iteration_"):
        k = int(group.removeprefix("iteration_"))
        policy = policy_before(k)
        return {
            "replay_buffer": ("base_model", "splits", policy),
            "trees": ("base_model", "splits", policy, f"{group}/replay_buffer"),
            "pairs": ("splits", f"{group}/trees"),
            "policy": ("base_model", "splits", policy, f"{group}/pairs"),
        }[name]
    return {
        "base_model": (),
        "examples": ("base_model",),
        "splits": ("examples",),
        "api_bank_cases": ("base_model",),
        "report": (
            *scores_of(iterations, api_bank),
            *(f"iteration_{k}/pairs" for k in range(1, iterations + 1)),
        ),
    }[asset]


def assets_of(iterations: int = MAX_ITERATIONS, api_bank: bool = True) -> tuple[str, ...]:
    """All assets of an experiment with so many iterations, every one after its inputs.

    api_bank  whether it is scored on API-Bank too
    """
    steps = ("replay_buffer", "trees", "pairs", "policy")
    unrolled = [f"iteration_{k}/{step}" for k in range(1, iterations + 1) for step in steps]
    cases = ["api_bank_cases"] if api_bank else []
    front = ("base_model", "examples", "splits", *cases, *(f"warmup/{s}" for s in STAGES))
    return (*front, *unrolled, *scores_of(iterations, api_bank), "report")


def plan(experiment: Experiment) -> dict[str, Planned]:
    """Every asset of the experiment with its fingerprint, inputs first."""
    planned: dict[str, Planned] = {}
    shape = (experiment.iterations, experiment.evaluation.api_bank is not None)
    content = {"data": data_content(experiment), "api_bank": api_bank_content(experiment)}
    for asset in assets_of(*shape):
        inputs = {name: planned[name].fingerprint for name in inputs_of(asset, *shape)}
        section = _section(experiment, asset, content)
        if passes_on(experiment, asset):  # neither data nor settings matter to it
            del inputs["splits"]
            section = {"passes_on": True}
        origin = Origin(inputs=inputs, code_version=CODE_VERSIONS[kind(asset)], config=section)
        planned[asset] = Planned(asset, origin, origin.fingerprint(asset))
    return planned


def _section(e: Experiment, asset: str, content: Mapping[str, str]) -> Mapping[str, Any]:
    """The part of the config that decides what `asset` is; `content` stands for the local data."""
    asked = e.evaluation.api_bank or ApiBankConfig()
    stagewise = e.warmup.curriculum not in ("mixed", "none")
    # A stage is the same wherever the curriculum ends after it.
    warmup = e.warmup.model_copy(update={"curriculum": "easy_to_hard"}) if stagewise else e.warmup
    numerics = {"device": e.compute.device, "dtype": e.compute.dtype, "batch_tokens": e.compute.batch_tokens}
    sections: dict[str, Mapping[str, Any]] = {
        "base_model": {"model": e.model, "wheel": SMOLLM2.sha256 if e.model.type == "smollm2_wheel" else ""},
        "examples": {
            # The bound on unreadable rows decides whether the run goes on, not what is read.
            "data": e.data.model_dump(mode="json", exclude={"max_quarantined"}),
            "content": content["data"],
            "wheel": BFCL.sha256,
            "prompt": e.prompt,
            "seed": e.seed,
        },
        "splits": {"split": e.split, "buffer_fraction": e.replay_buffer.fraction, "seed": e.seed},
        "warmup": {"warmup": warmup, "seed": e.seed, "compute": numerics},
        "replay_buffer": {"replay_buffer": e.replay_buffer, "seed": e.seed, "compute": numerics},
        "trees": {"search": e.search, "seed": e.seed, "compute": numerics},
        "pairs": {"pairs": e.pairs},
        "policy": {
            "preference": e.preference,
            "lora": e.warmup.lora,
            "validation_fraction": e.split.validation_fraction,
            "seed": e.seed,
            "compute": numerics,
        },
        "bfcl": {"bfcl": e.evaluation.bfcl, "seed": e.seed, "compute": numerics},
        "api_bank_cases": {"source": content["api_bank"] or f"{asked.name}@{asked.revision}", "prompt": e.prompt},
        "api_bank": {
            "api_bank": asked.model_dump(exclude={"path", "name", "revision"}),
            "seed": e.seed,
            "compute": numerics,
        },
        "report": {"experiment": e.name, "description": e.description},
    }
    return sections[kind(asset)]


def data_content(experiment: Experiment) -> str:
    """sha256 of a local data file, so that a changed file is new data; empty for data that its revision names."""
    if isinstance(experiment.data, BfclHalfData) or experiment.data.path is None:
        return ""
    path = Path(experiment.data.path).expanduser()
    if not path.is_file():
        return ""  # reading it will say so, with what to do
    return file_sha256(path)


def api_bank_content(experiment: Experiment) -> str:
    """The same for a local copy of API-Bank: of the names and contents of the files that are read."""
    asked = experiment.evaluation.api_bank
    if asked is None or asked.path is None:
        return ""
    directory = Path(asked.path).expanduser()
    return folder_sha256(directory, source_files(directory))

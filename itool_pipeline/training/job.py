"""A training as a file: what is trained, on what, how, and where it all lies.

    python -m itool_pipeline.training job.json

runs one. Free of torch, so that whoever writes the file needs none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from itool_pipeline.config import (
    ComputeConfig,
    Grpo,
    LoraConfig,
    OptimizerConfig,
    PreferenceLoss,
    SearchBase,
    Section,
)
from itool_pipeline.config.fields import AtLeastOne, Count, Weight
from itool_pipeline.errors import ActionableError


class TrainingError(ActionableError):
    """Training cannot start or go on. The message says at which step, with which examples, and what to do."""


class FreshAdapter(Section):
    """A new adapter, which changes nothing yet; the same seed gives the same weights."""

    type: Literal["fresh"] = "fresh"
    lora: LoraConfig = LoraConfig()
    seed: Count = 0


class ContinuedAdapter(Section):
    """An adapter as peft or a training saved it, trained further."""

    type: Literal["continued"] = "continued"
    directory: Path


class SftObjective(Section):
    """Supervised fine-tuning on gold responses (Eq. 2)."""

    type: Literal["sft"] = "sft"


class PreferenceObjective(Section):
    """Preference optimisation on pairs (Eq. 10 and 11)."""

    type: Literal["preference"] = "preference"
    loss: Annotated[PreferenceLoss, Field(discriminator="type")]
    gold_weight: Weight = 0.0


Objectives = SftObjective | PreferenceObjective
Adapters = FreshAdapter | ContinuedAdapter


class TrainingJob(Section):
    """One training. Paths in a file are relative to its directory, or absolute.

    base_model  directory of a model as transformers saves it, in safetensors
    data        token ids, see `data_file`: neither tokenizer nor chat template is needed
    compute     an `auto` dtype is settled when the training begins, and noted in its parts
    parts       resumable checkpoints; started again, the training goes on from the last, with the same end
    out         where the trained adapter goes
    candidates  if given, where the adapters of all validations after the start go, see `candidate_path`
    result      JSON of the TrainingResult; it is written last, so that where it is, all is
    """

    base_model: Path
    compute: ComputeConfig = ComputeConfig()
    quantization: Literal["nf4", "none"] = "none"
    kernels: Literal["fused", "plain"] = Field(
        "fused", description="plain: peft's and PyTorch's own forward pass, slower on a CPU; the same up to rounding"
    )
    adapter: Annotated[Adapters, Field(discriminator="type")]
    data: Path
    objective: Annotated[Objectives, Field(discriminator="type")]
    optimizer: OptimizerConfig
    seed: Count = 0
    parts: Path
    out: Path
    candidates: Path | None = None
    result: Path

    @model_validator(mode="after")
    def _sharded_weights_are_not_quantized(self) -> TrainingJob:
        if self.compute.sharding == "fsdp" and self.quantization != "none":
            raise ValueError("compute.sharding: fsdp was never run with quantization; set quantization: none")
        return self


def candidate_path(candidates: Path, step: int) -> Path:
    """Where in `TrainingJob.candidates` the adapter after so many optimizer steps lies."""
    return candidates / f"step_{step:08d}"


def candidate_steps(candidates: Path) -> list[int]:
    """Those that an adapter is there of, from few to many."""
    return sorted(int(path.name.removeprefix("step_")) for path in candidates.glob("step_*"))


class GrpoJob(Section):
    """One training by GRPO. It is no file that can be run, because its reward is a function.

    drawing    temperature, top_k, top_p and max_response_tokens of the completions
    end_token  the end of the assistant's turn; completions also end at those that the model's own configs name
    budget     tokens of completions, their ends included, after which training stops
    out        where the trained adapter goes
    """

    base_model: Path
    compute: ComputeConfig = ComputeConfig()
    quantization: Literal["nf4", "none"] = "none"
    adapter: Annotated[Adapters, Field(discriminator="type")]
    loss: Grpo
    drawing: SearchBase
    end_token: Count
    budget: AtLeastOne
    optimizer: OptimizerConfig
    seed: Count = 0
    out: Path


def read_job(path: Path) -> TrainingJob:
    """The job in a JSON file. Raises TrainingError, with file, key and reason, when it is missing or not valid."""
    try:
        job = TrainingJob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'job'}: {e['msg']}" for e in error.errors())
        raise TrainingError("\n".join(f"{path}: {problem}" for problem in problems)) from error
    root = path.parent.absolute()
    found: dict[str, Any] = {
        name: root / getattr(job, name) for name in ("base_model", "data", "parts", "out", "result")
    }
    if job.candidates is not None:
        found["candidates"] = root / job.candidates
    if isinstance(job.adapter, ContinuedAdapter):
        found["adapter"] = job.adapter.model_copy(update={"directory": root / job.adapter.directory})
    return job.model_copy(update=found)


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation set after `step` optimizer steps: mean loss, and means of what else the objective reports."""

    step: int
    loss: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """losses: one for each step, over its own items; validation: at step 0 (the start), `validate_every`, epoch ends;
    best_step: the step whose weights were kept; examples: items in the training set; trainable_parameters: scalars.
    """

    losses: tuple[float, ...]
    validation: tuple[Validation, ...]
    best_step: int
    steps: int
    examples: int
    trainable_parameters: int


@dataclass(frozen=True, slots=True)
class GrpoResult:
    """One figure for each step: its loss, the mean reward of its completions, and the share of its prompts whose
    completions all had the same reward, which teach nothing. generated_tokens: of all steps; examples: prompts.
    """

    losses: tuple[float, ...]
    rewards: tuple[float, ...]
    equal_rewards: tuple[float, ...]
    generated_tokens: int
    examples: int
    trainable_parameters: int

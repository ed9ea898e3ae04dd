"""What a training run needs to go on after a kill: tensors in safetensors, the rest in JSON, written atomically."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from itool_pipeline.files.locks import Say
from itool_pipeline.files.seals import is_sound, put_aside, remove_sealed, write_sealed
from itool_pipeline.training.job import Validation

_STATE, _WEIGHTS, _BEST, _MOMENTS = "state.json", "weights.safetensors", "best.safetensors", "optimizer.safetensors"


@dataclass(slots=True)
class TrainingState:
    """All that changes from step to step, beside the weights. Random numbers are drawn from (seed, step) alone."""

    signature: str
    step: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[Validation] = field(default_factory=list)
    best_step: int = 0


def save_checkpoint(
    parts: Path,
    state: TrainingState,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:
    """Write everything to `parts`/step_N, which appears whole or not at all, then remove older ones."""

    def fill(directory: Path) -> None:
        directory.mkdir()
        save_file(copies(parameters), str(directory / _WEIGHTS))
        save_file(best, str(directory / _BEST))
        save_file(_moments(parameters, optimizer), str(directory / _MOMENTS))
        (directory / _STATE).write_text(json.dumps(asdict(state)))

    written = write_sealed(parts / f"step_{state.step:08d}", fill, what="a checkpoint", alone=True)
    for older in parts.glob("step_*"):
        if older.name < written.name:
            remove_sealed(older)


def put_damaged_aside(parts: Path, candidates: Path | None, say: Say) -> None:
    """Before a training goes on: move what is no longer what it wrote out of its way, so that it makes it again.

    candidates  adapters of validations; where one is damaged, the training begins again, for nothing else makes it
    """
    for checkpoint in sorted(parts.glob("step_*")):
        if not is_sound(checkpoint):
            put_aside(checkpoint, "the training goes on without it", say)
    for adapter in sorted(candidates.glob("step_*")) if candidates is not None else ():
        if not is_sound(adapter):
            # First the checkpoints: after a kill in between nothing would tell that this adapter is to be made again.
            for checkpoint in parts.glob("step_*"):
                remove_sealed(checkpoint)
            put_aside(adapter, "the training begins again", say)


def load_checkpoint(
    parts: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[TrainingState, dict[str, Tensor]] | None:
    """Put the newest checkpoint in `parts` back into `parameters` and `optimizer`: its state and best weights.

    None when there is no checkpoint yet.
    """
    newest = max(parts.glob("step_*"), default=None, key=lambda path: path.name)
    if newest is None:
        return None
    content: dict[str, Any] = json.loads((newest / _STATE).read_text())
    content["validation"] = [Validation(**row) for row in content["validation"]]
    restore(parameters, load_file(str(newest / _WEIGHTS)))
    _restore_moments(parameters, optimizer, load_file(str(newest / _MOMENTS)))
    return TrainingState(**content), load_file(str(newest / _BEST))


def copies(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The parameters' values now, on the CPU."""
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in parameters.items()}


def restore(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Set each parameter to its value in `values`."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _moments(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}|{name}": value.detach().to("cpu", copy=True).contiguous()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def _restore_moments(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, values: dict[str, Tensor]
) -> None:
    for joined, value in values.items():
        key, _, name = joined.partition("|")
        parameter = parameters[name]
        optimizer.state[parameter][key] = value.to(parameter.device)

"""What a training leaves beside its adapter: the checkpoint's row, a picture of its losses, the artifact's metadata."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.data.own_adapter import adapter_config, adapter_content, copy_adapter
from itool_pipeline.files.durable import remove_tree, write_json
from itool_pipeline.steps.artifact_files import CHECKPOINT_FILE
from itool_pipeline.steps.candidates import Answered, most_right
from itool_pipeline.steps.computing import computed_in
from itool_pipeline.steps.display import loss_plot
from itool_pipeline.steps.models import ADAPTER, adapter_dir, base_dir
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.job import TrainingResult


@dataclass(frozen=True, slots=True)
class Trained:
    """A training's result, and what its policies answered where that decided which weights were kept."""

    result: TrainingResult
    policies: tuple[Answered, ...] = ()


def finish(ws: Workspace, step: Step, before: str, trained: Trained) -> dict[str, Any]:
    """Write what is known of a training from the checkpoint `before`, whose adapter is there; metadata of every one."""
    result = trained.result
    _write(ws, step, before, trained)
    points = [(v.step, v.loss) for v in result.validation]
    best = [v.loss for v in result.validation if v.step == result.best_step]
    plot = loss_plot(step.work / "loss.png", result.losses, points, step.asset)
    return {
        "examples": result.examples,
        "optimizer_steps": result.steps,
        "best_step": result.best_step,
        "first_loss": result.losses[0],
        "last_loss": result.losses[-1],
        **({"validation_loss_before": points[0][1], "validation_loss": best[0]} if best else {}),
        **(_before_and_after(trained.policies) if trained.policies else {}),
        "trainable_parameters": result.trainable_parameters,
        "loss": plot,
        **computed_in(step.parts),
    }


def unchanged(ws: Workspace, step: Step, before: str, why: str) -> dict[str, Any]:
    """Leave a checkpoint equal to the one before, as there was nothing to train on; the artifact's metadata."""
    ws.say(f"{step.asset}: {why}; the checkpoint stays as it was at {before}")
    previous = adapter_dir(ws, before)
    if previous is not None:
        shutil.copytree(previous, step.work / ADAPTER, dirs_exist_ok=True)
    _write(ws, step, before, None)
    return {"unchanged": why, "optimizer_steps": 0}


def taken(ws: Workspace, step: Step, before: str, folder: Path, name: str) -> dict[str, Any]:
    """Leave the adapter of `folder`, which the experiment names by `name`; the artifact's metadata.

    Raises ModelError for an adapter of another model.
    """
    from itool_pipeline.engines.adapter import require_fitting_adapter

    require_fitting_adapter(base_dir(ws), folder)
    stated = adapter_config(folder).get("base_model_name_or_path")
    ws.say(
        f"{step.asset}: the adapter {name} is the start; it says that its base is {stated or 'a model without name'}"
    )
    remove_tree(step.work / ADAPTER)
    copy_adapter(folder, step.work / ADAPTER)
    _write(ws, step, before, None)
    return {
        "adapter": name,
        "stated_base": stated,
        "adapter_sha256": adapter_content(str(folder)),
        "optimizer_steps": 0,
    }


def _before_and_after(policies: Sequence[Answered]) -> dict[str, Any]:
    before, kept = policies[0], most_right(policies)
    return {
        "validation_answers": kept.examples,
        "right_before": before.right,
        "right": kept.right,
        "held_back": kept.step == 0,
    }


def _write(ws: Workspace, step: Step, before: str, trained: Trained | None) -> None:
    result, policies = (trained.result, trained.policies) if trained else (None, ())
    best = [v.loss for v in result.validation if v.step == result.best_step] if result else []
    row = {
        "stage": step.asset,
        "parent_artifact": ws.planned[before].fingerprint,
        "examples": result.examples if result else 0,
        "steps": result.steps if result else 0,
        "train_loss": result.losses[-1] if result else None,
        "validation_loss": best[0] if best else None,
        "best_step": result.best_step if result else 0,
        "trainable_parameters": result.trainable_parameters if result else 0,
        "right_answers": [[policy.step, policy.right, policy.examples] for policy in policies],
        "losses": {
            "train": list(result.losses) if result else [],
            "validation": [[v.step, v.loss] for v in result.validation] if result else [],
        },
    }
    write_json(step.work / CHECKPOINT_FILE, row)

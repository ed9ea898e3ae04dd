"""Supervised fine-tuning as a step does it: the warm-up (Eq. 2), and what stands in the place of preferences."""

from __future__ import annotations

from typing import Any, Literal

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.steps.trained import finish
from itool_pipeline.steps.training_run import JOB_DATA, settled_for_training, train
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.data_file import write_sft_data
from itool_pipeline.training.items import SftItem, TrainingData
from itool_pipeline.training.job import SftObjective


def fine_tune(
    ws: Workspace,
    step: Step,
    before: str,
    data: TrainingData[SftItem],
    what: str,
    optimizer: OptimizerConfig,
    quantization: Literal["nf4", "none"] = "none",
) -> dict[str, Any]:
    """Go on from the checkpoint `before` with the likelihood of the data's responses; the artifact's metadata.

    what  of the data, for the line that says so
    """
    own = settled_for_training(ws, step)
    ws.say(f"fine-tuning on {what}")
    write_sft_data(step.parts.path(JOB_DATA), data)
    return finish(ws, step, before, train(own, step, before, SftObjective(), optimizer, quantization))

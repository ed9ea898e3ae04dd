"""warmup/easy → medium → hard: supervised fine-tuning on one difficulty after another (Section 3.1)."""

from __future__ import annotations

from typing import Any

from itool_pipeline.steps.computing import settled
from itool_pipeline.steps.gold_answers import gold_answers
from itool_pipeline.steps.plan import STAGES, passes_on
from itool_pipeline.steps.trained import checkpoint_tables, finish, unchanged
from itool_pipeline.steps.training_run import JOB_DATA, train
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.data_file import write_sft_data
from itool_pipeline.training.job import SftObjective


def warmup(ws: Workspace, stage: str) -> Produced:
    """Fine-tune on one difficulty, from where the stage before ended (Eq. 2 and 3).

    With another curriculum than easy to hard, a stage trains on all difficulties or passes the checkpoint on.
    """
    asset = f"warmup/{stage}"
    before = f"warmup/{STAGES[STAGES.index(stage) - 1]}" if stage != STAGES[0] else "base_model"

    def make(step: Step) -> dict[str, Any]:
        config = ws.experiment.warmup
        if passes_on(ws.experiment, asset):
            return unchanged(ws, step, before, "the curriculum trains nothing in this stage")
        data = gold_answers(ws, None if config.curriculum == "mixed" else stage)
        if not data.train:
            return unchanged(ws, step, before, "no training example has this difficulty")
        own = settled(ws, step.parts)
        what = "mixed" if config.curriculum == "mixed" else stage
        kept = "" if data.validation else "; none validates, so the last weights are kept and not the best"
        ws.say(f"fine-tuning on {len(data.train)} {what} examples{kept}")
        write_sft_data(step.parts.path(JOB_DATA), data)
        return finish(ws, step, before, train(own, step, before, SftObjective(), config.optimizer))

    return ws.produce(asset, make, checkpoint_tables)

"""warmup/easy → medium → hard: supervised fine-tuning on one difficulty after another (Section 3.1)."""

from __future__ import annotations

from typing import Any

from itool_pipeline.data.own_adapter import find_adapter
from itool_pipeline.steps.asset_graph import STAGES, passes_on, takes_adapter
from itool_pipeline.steps.fine_tuning import fine_tune
from itool_pipeline.steps.gold_answers import gold_answers
from itool_pipeline.steps.trained import taken, unchanged
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step


def warmup(ws: Workspace, stage: str) -> Produced:
    """Fine-tune on one difficulty, from where the stage before ended (Eq. 2 and 3).

    With another curriculum than easy to hard, a stage trains on all difficulties or passes the checkpoint on. An
    adapter of the user's own stands in the place of all of it: the last stage takes it as it is.
    """
    asset = f"warmup/{stage}"
    before = f"warmup/{STAGES[STAGES.index(stage) - 1]}" if stage != STAGES[0] else "base_model"

    def make(step: Step) -> dict[str, Any]:
        config = ws.experiment.warmup
        if config.adapter is not None and takes_adapter(ws.experiment, asset):
            return taken(ws, step, before, find_adapter(config.adapter), config.adapter)
        if passes_on(ws.experiment, asset):
            return unchanged(ws, step, before, "the curriculum trains nothing in this stage")
        data = gold_answers(ws, None if config.curriculum == "mixed" else stage)
        if not data.train:
            return unchanged(ws, step, before, "no training example has this difficulty")
        what = "mixed" if config.curriculum == "mixed" else stage
        kept = "" if data.validation else "; none validates, so the last weights are kept and not the best"
        return fine_tune(ws, step, before, data, f"{len(data.train)} {what} examples{kept}", config.optimizer)

    return ws.produce(asset, make)

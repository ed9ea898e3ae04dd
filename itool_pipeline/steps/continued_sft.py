"""iteration_k/policy by more of the warm-up's fine-tuning: is it the pairs that help, or only more steps?"""

from __future__ import annotations

from typing import Any

from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.fine_tuning import fine_tune
from itool_pipeline.steps.gold_answers import gold_answers
from itool_pipeline.steps.trained import unchanged
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step


def by_gold_answers(ws: Workspace, k: int, step: Step) -> dict[str, Any]:
    """Make the policy of iteration k from the gold answers of the whole training part; the artifact's metadata."""
    before, preference, data = policy_before(k), ws.experiment.preference, gold_answers(ws)
    if not data.train:
        return unchanged(ws, step, before, "there is no training example")
    what = f"the gold answers of all {len(data.train)} training examples"
    return fine_tune(ws, step, before, data, what, preference.optimizer, preference.quantization)

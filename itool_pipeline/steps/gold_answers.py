"""The gold answers of training examples, as fine-tuning reads them."""

from __future__ import annotations

from itool_pipeline.steps.example_access import each_response_tokens, split_rows
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.training.items import SftItem, TrainingData


def gold_answers(ws: Workspace, difficulty: str | None = None) -> TrainingData[SftItem]:
    """Those of the warm-up's training part, of one difficulty or of all.

    Validated is on all difficulties, so that the losses of trainings can be compared.
    """
    rows = split_rows(ws)
    wanted = {
        key
        for key, row in rows.items()
        if row.split == "validation" or (row.split == "train" and difficulty in (None, row.difficulty))
    }
    parts: dict[str, list[SftItem]] = {"train": [], "validation": []}
    for tokens in each_response_tokens(ws, wanted):
        parts[rows[tokens.id].split].append(SftItem(tokens.id, tokens.prompt, tokens.response))
    return TrainingData(parts["train"], parts["validation"])

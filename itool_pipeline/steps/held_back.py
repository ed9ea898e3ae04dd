"""Which examples no policy of an iteration is trained on, because what was searched of them validates it."""

from __future__ import annotations

from collections.abc import Sequence

from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.splits import validation_ids
from itool_pipeline.steps.example_access import buffered_rows, split_rows
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.training.items import T, TrainingData


def held_back(ws: Workspace) -> frozenset[str]:
    """The examples, in every iteration the same, so that none of them is ever trained on; those that validate the
    warm-up are among them.
    """
    e = ws.experiment
    buffered = {key: row.group_id for key, row in buffered_rows(ws).items()}
    of_warmup = {key for key, row in split_rows(ws).items() if row.split == "validation"}
    return validation_ids(buffered, e.split.validation_fraction, derive_seed(e.seed, "preference")) | of_warmup


def parted(ws: Workspace, items: Sequence[T]) -> TrainingData[T]:
    """The items to train on, and those of examples that are held back, to validate on."""
    validating = held_back(ws)
    return TrainingData(
        [item for item in items if item.name not in validating], [item for item in items if item.name in validating]
    )

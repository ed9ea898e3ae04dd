"""Where the figures of a training and of a search also go while they run; Dagster shows them in any case.

None of it is part of a fingerprint. No key is set here: each tracker finds its own where it always does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from itool_pipeline.config.fields import Section


class NoTracking(Section):
    """Dagster alone."""

    type: Literal["none"] = "none"


class TensorBoardTracking(Section):
    """Event files for TensorBoard, a folder for each training."""

    type: Literal["tensorboard"]
    directory: str | None = Field(None, description="of the event files; unset: `tensorboard` in the storage")


class TrackioTracking(Section):
    """Trackio, on this machine or where its own variables say."""

    type: Literal["trackio"]
    project: str = Field("itool_pipeline", min_length=1)


class WandbTracking(Section):
    """Weights & Biases; the key is what `wandb login` or WANDB_API_KEY left."""

    type: Literal["wandb"]
    project: str = Field("itool_pipeline", min_length=1)
    entity: str | None = Field(None, description="user or team; unset: the key's own")
    mode: Literal["online", "offline"] = Field(
        "online", description="offline: into the storage, for `wandb sync` to send later; no key is needed"
    )


class MlflowTracking(Section):
    """MLflow; user and password are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or its token."""

    type: Literal["mlflow"]
    uri: str | None = Field(None, description="`https://…` or `sqlite:///…`; unset: what MLFLOW_TRACKING_URI says")
    experiment: str = Field("itool_pipeline", min_length=1)


TrackingConfig = NoTracking | TensorBoardTracking | TrackioTracking | WandbTracking | MlflowTracking

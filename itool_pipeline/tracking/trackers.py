"""TensorBoard, Trackio, Weights & Biases and MLflow as writers. Each is an extra, imported where it is asked for.

Steps are told by their own number under a run of the work's own name, so that work that goes on after a kill goes on
in the same curve. What each does with keys and proxies is its own affair: none is handed over here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from itool_pipeline.config import (
    MlflowTracking,
    NoTracking,
    TensorBoardTracking,
    TrackingConfig,
    TrackioTracking,
    WandbTracking,
)
from itool_pipeline.errors import ActionableError
from itool_pipeline.tracking.writers import MetricWriter, named


class TrackingError(ActionableError):
    """The tracker that the config names is not installed, or takes nothing. The message says what to do."""


@dataclass(frozen=True, slots=True)
class TrackedWork:
    """What is tracked: an asset of an experiment; `run` tells one making of it from another. `config` is for people."""

    experiment: str
    asset: str
    run: str
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the run at the tracker: `demo-warmup-easy-20261127-101500-a1b2c3`."""
        return "-".join([self.experiment, *self.asset.split("/"), self.run])


def require_tracker(config: TrackingConfig) -> None:
    """Raise TrackingError, with what to install, unless the package that the config needs is there. Imports nothing."""
    if not isinstance(config, NoTracking) and find_spec(config.type) is None:
        raise TrackingError(
            f"tracking.type is {config.type}, and that is not installed here: .venv/bin/pip install -c constraints.txt "
            f"-e '.[{config.type}]', or set tracking.type: none. Dagster shows the same figures without it."
        )


def make_tracker(config: TrackingConfig, work: TrackedWork, storage: Path) -> MetricWriter | None:
    """A writer to the tracker; None without one. What it keeps on this machine lies in `storage`, by default.

    Raises TrackingError when the tracker is not installed or does not begin: nothing long has been done by then.
    """
    if isinstance(config, NoTracking):
        return None
    require_tracker(config)
    try:
        if isinstance(config, TensorBoardTracking):
            directory = Path(config.directory).expanduser() if config.directory else storage / "tensorboard"
            return _TensorBoard(directory / work.experiment / work.asset / work.run)
        if isinstance(config, TrackioTracking):
            return _Trackio(config, work)
        if isinstance(config, WandbTracking):
            return _Wandb(config, work, storage)
        return _Mlflow(config, work)
    except Exception as error:  # each tracker has classes of its own for it
        raise TrackingError(
            f"tracking.type is {config.type}, which does not begin: {type(error).__name__}: {error}. Mend that, or set "
            "tracking.type: none, and run again."
        ) from error


class _TensorBoard:
    """An event file, by the package's own writer, which needs no torch."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventFileWriter(str(folder))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in named(kind, values).items()]
        self._file.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        self._file.flush()  # a curve that is looked at, and a step that no kill takes back

    def close(self) -> None:
        self._file.close()


class _Trackio:
    def __init__(self, config: TrackioTracking, work: TrackedWork) -> None:
        import trackio

        self._run = trackio.init(
            project=config.project,
            name=work.name,
            group=work.experiment,
            resume="allow",
            config=dict(work.config),
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self._run.log(named(kind, values), step=step)

    def close(self) -> None:
        self._run.finish()


class _Wandb:
    """W&B's own step only grows over all figures, so each kind has one of its own that its figures are drawn by."""

    def __init__(self, config: WandbTracking, work: TrackedWork, folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            id=work.name,
            name=work.name,
            group=work.experiment,
            resume="allow",
            config=dict(work.config),
            dir=str(folder),
        )
        for kind in ("train", "validation", "answers", "search"):
            self._run.define_metric(f"{kind}/step")
            self._run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self._run.log(named(kind, {"step": step, **values}))

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    """The run is found again by a tag, as MLflow gives it an id of its own."""

    def __init__(self, config: MlflowTracking, work: TrackedWork) -> None:
        from mlflow import MlflowClient

        uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise ValueError("neither tracking.uri nor MLFLOW_TRACKING_URI says where runs go")
        self._client = MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(config.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(config.experiment)
        runs = self._client.search_runs([experiment], filter_string=f"tags.itool_run = '{work.name}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"itool_run": work.name, "experiment": work.experiment, "asset": work.asset}
            self._run = self._client.create_run(experiment, tags=tags, run_name=work.name).info.run_id

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        figures = [Metric(name, value, now, step) for name, value in named(kind, values).items()]
        self._client.log_batch(self._run, metrics=figures)

    def close(self) -> None:
        self._client.set_terminated(self._run)

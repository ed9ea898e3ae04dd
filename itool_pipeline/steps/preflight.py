"""What would stop an experiment, as far as it can be seen in seconds: nothing is downloaded, made or written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from itool_pipeline.config import EndpointModel, Experiment, Grpo, HubModel
from itool_pipeline.config.data import BfclHalfData
from itool_pipeline.data.base_model import local_model
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.model_folder import require_whole_model
from itool_pipeline.data.own_adapter import local_adapter, require_lora
from itool_pipeline.data.sources import local_file
from itool_pipeline.engines.endpoint.client import require_key
from itool_pipeline.engines.vllm_maker import require_vllm
from itool_pipeline.errors import words_for
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.steps.asset_graph import asked_benchmarks
from itool_pipeline.steps.models import chat_in, require_usable
from itool_pipeline.store.paths import StoragePaths
from itool_pipeline.tracking.trackers import require_tracker
from itool_pipeline.training.trl_extra import require_trl


def obstacles(experiment: Experiment, paths: StoragePaths) -> list[str]:
    """Each in words, with what to do; empty when nothing is known to be in the way."""
    asked = [lambda b=benchmark: b.require_local_files(experiment) for benchmark in asked_benchmarks(experiment)]
    if isinstance(experiment.model, EndpointModel):
        of_endpoint = _of_endpoint(experiment, experiment.model, paths)
        return [words for words in map(_words_of, [*of_endpoint, *asked]) if words]
    looks: list[Callable[[], None]] = [
        lambda: _look_at_data(experiment),
        lambda: _look_at_model(experiment),
        lambda: _look_at_adapter(experiment),
        lambda: _look_at_device(experiment),
        lambda: _look_at_engine(experiment),
        lambda: _look_at_trainer(experiment),
        lambda: require_tracker(experiment.tracking),
        *asked,
        lambda: _look_at_storage(paths.root),
    ]
    return [words for words in map(_words_of, looks) if words]


def _of_endpoint(experiment: Experiment, model: EndpointModel, paths: StoragePaths) -> list[Callable[[], None]]:
    """It is not asked anything yet: that may cost something."""
    return [
        lambda: _look_at_key(model),
        lambda: require_tracker(experiment.tracking),
        lambda: _look_at_storage(paths.root),
    ]


def _look_at_key(model: EndpointModel) -> None:
    require_key(model)


def _words_of(look: Callable[[], None]) -> str:
    try:
        look()
    except Exception as error:
        words = words_for(error)
        if words is None:
            raise
        return words
    return ""


def _look_at_data(experiment: Experiment) -> None:
    """A local file is there, is of a kind that is read, and has a row."""
    if not isinstance(experiment.data, BfclHalfData) and experiment.data.path is not None:
        next(file_rows(local_file(experiment.data)))


def _look_at_model(experiment: Experiment) -> None:
    """A local model is whole and of a kind that is computed exactly, and its chat template says what prompts need."""
    directory = local_model(experiment.model) if isinstance(experiment.model, HubModel) else None
    if directory is not None:
        require_whole_model(directory)
        require_usable(directory)
        chat_in(directory, experiment)


def _look_at_adapter(experiment: Experiment) -> None:
    """An adapter in a local folder is one that can be gone on from, and where the model is local too, on that one."""
    folder = local_adapter(experiment.warmup.adapter) if experiment.warmup.adapter is not None else None
    if folder is not None:
        require_lora(folder)
        directory = local_model(experiment.model) if isinstance(experiment.model, HubModel) else None
        if directory is not None:
            from itool_pipeline.engines.adapter import require_fitting_adapter

            require_fitting_adapter(directory, folder)


def _look_at_device(experiment: Experiment) -> None:
    if experiment.compute.device == "cuda":
        from itool_pipeline.engines.model import resolve_device

        resolve_device(experiment.compute)


def _look_at_engine(experiment: Experiment) -> None:
    if experiment.compute.engine == "vllm":
        require_vllm()


def _look_at_trainer(experiment: Experiment) -> None:
    if isinstance(experiment.preference.loss, Grpo) and experiment.iterations:
        require_trl()


def _look_at_storage(root: Path) -> None:
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(
            f"Nothing can be written to {root}: {existing} is {'not writable' if existing.is_dir() else 'a file'}. "
            "Point ITOOL_STORAGE at a folder that can be written to."
        )

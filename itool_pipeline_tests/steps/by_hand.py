"""A workspace on a temporary storage, and examples, for steps whose artifacts are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.config import Experiment
from itool_pipeline.core.reward import GradePrompt
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.base_model import SOURCE_FILE
from itool_pipeline.data.model_folder import weight_files
from itool_pipeline.files.hashes import joined_sha256
from itool_pipeline.steps.artifact_files import POOL_FILE, QUARANTINE_FILE, TRAIN_FILE
from itool_pipeline.steps.asset_graph import cases_asset
from itool_pipeline.steps.example_files import training_row, write_cases, write_training_examples
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.prepare import write_quarantine
from itool_pipeline.steps.records import DatabaseRecords, Records
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.database import Database
from itool_pipeline.store.paths import StoragePaths


def experiment(**over: Any) -> Experiment:
    """An experiment with the defaults of the config, but for `over`."""
    content = {"name": "hand", "model": {"type": "smollm2_wheel"}, "data": {"type": "bfcl_half"}, **over}
    return Experiment.model_validate(content)


def workspace(
    root: Path, said: list[str] | None = None, *, run_id: str = "run-1", records: Records | None = None, **over: Any
) -> Workspace:
    """`said` collects what the workspace says; without `records`, the database of the storage is written."""
    made, say = experiment(**over), (said if said is not None else []).append
    paths = StoragePaths(root)
    written = records or DatabaseRecords(Database(paths.database, say=say))
    return Workspace(made, plan(made), ArtifactStore(paths.artifacts, say), written, paths, say, run_id)


def database_of(ws: Workspace) -> Database:
    """The database of the workspace's storage."""
    return Database(ws.paths.database)


def put(ws: Workspace, asset: str, write: Callable[[Path], Any]) -> None:
    """An artifact of `asset` with the files that `write` makes in the directory it is handed. No rows."""

    def make(step: Step) -> dict[str, Any]:
        write(step.work)
        return {}

    planned = ws.planned[asset]
    reuse_or_make(ws.artifacts, asset, planned.fingerprint, make, origin=planned.origin)


def put_whole_model(ws: Workspace, directory: Path, **more: Any) -> None:
    """The base model is the one that lies in `directory`; `more` is told of it."""
    source = {"path": str(directory), "sha256": joined_sha256(weight_files(directory))}
    put(ws, "base_model", lambda out: (out / SOURCE_FILE).write_text(json.dumps(source | more)))


def put_model(ws: Workspace, directory: Path, config: Mapping[str, Any]) -> None:
    """A base model in `directory` of which there is the config.json alone."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    put(ws, "base_model", lambda out: (out / SOURCE_FILE).write_text(json.dumps({"path": str(directory)})))


def example(key: str, question: str = "", group: str = "") -> Example:
    return Example(
        id=key,
        source="bfcl",
        category="simple_python",
        messages=(Message("user", question or f"What is {key}?"),),
        tools=({"name": f"f_{key}", "description": "", "parameters": {"properties": {}}},),
        response=f"[f_{key}()]",
        gold=(),
        group=group or key,
    )


class ByteTemplate:
    """In place of the chat template: nine tokens for every prompt, a response is its bytes."""

    def prompt(self, example: Example) -> tuple[int, ...]:
        return (7,) * 9

    def response(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def grade(self, example: Example) -> GradePrompt:
        return GradePrompt((5,) * 9, (6,), (1, 2, 3, 4))


def write_train(directory: Path, examples: Iterable[Example], template: Any = None) -> None:
    """The examples to train on of `examples`, as the template renders them; nothing is quarantined."""
    t = template or ByteTemplate()
    rows = (training_row(x, t.prompt(x), t.response(x.response), t.grade(x), tokenised_alone=False) for x in examples)
    write_training_examples(directory / TRAIN_FILE, rows)
    write_quarantine(directory / QUARANTINE_FILE, ())


def put_cases(ws: Workspace, benchmark: str, examples: Iterable[Example]) -> None:
    """The benchmark's pool of cases, every prompt of nine tokens."""
    put(
        ws,
        cases_asset(benchmark),
        lambda directory: write_cases(directory / POOL_FILE, examples, lambda example: (7,) * 9),
    )

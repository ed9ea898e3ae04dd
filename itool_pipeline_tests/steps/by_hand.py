"""A workspace on a temporary storage, and examples, for steps whose artifacts are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.config import Experiment
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.base_model import SOURCE_FILE
from itool_pipeline.steps import prepare
from itool_pipeline.steps.artifact_files import POOL_FILE
from itool_pipeline.steps.cases import write_pool
from itool_pipeline.steps.example_files import write_examples
from itool_pipeline.steps.plan import cases_asset, plan
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.database import Database
from itool_pipeline.store.paths import StoragePaths


def experiment(**over: Any) -> Experiment:
    """An experiment with the defaults of the config, but for `over`."""
    content = {"name": "hand", "model": {"type": "smollm2_wheel"}, "data": {"type": "bfcl_half"}, **over}
    return Experiment.model_validate(content)


def workspace(root: Path, said: list[str] | None = None, *, run_id: str = "run-1", **over: Any) -> Workspace:
    """`said` collects what the workspace says."""
    made, say = experiment(**over), (said if said is not None else []).append
    paths = StoragePaths(root)
    store, database = ArtifactStore(paths.artifacts, say), Database(paths.database, say=say)
    return Workspace(made, plan(made), store, database, paths, say, run_id)


def put(ws: Workspace, asset: str, write: Callable[[Path], Any]) -> None:
    """An artifact of `asset` with the files that `write` makes in the directory it is handed. No rows."""

    def make(step: Step) -> dict[str, Any]:
        write(step.work)
        return {}

    planned = ws.planned[asset]
    reuse_or_make(ws.artifacts, asset, planned.fingerprint, make, origin=planned.origin)


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


def write_split_examples(directory: Path, examples: Iterable[Example]) -> None:
    """The file of `splits` with the examples to train and validate on; which is which stands in SPLITS."""
    own = {"part": "train", "split": None, "difficulty": None, "in_buffer": None}
    write_examples(directory / prepare.EXAMPLES, ((x, own) for x in examples), prepare.SPLIT_SCHEMA)


def write_train(directory: Path, examples: Iterable[Example]) -> None:
    """The examples to train on of `examples`."""
    write_examples(directory / prepare.TRAIN, ((x, {}) for x in examples))


def put_cases(ws: Workspace, benchmark: str, examples: Iterable[Example]) -> None:
    """The benchmark's pool of cases, every prompt of nine tokens."""
    put(ws, cases_asset(benchmark), lambda directory: write_pool(directory / POOL_FILE, examples, lambda example: 9))

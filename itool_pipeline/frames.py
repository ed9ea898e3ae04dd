"""What the experiments made, as pandas DataFrames for notebooks; nothing is written.

    from itool_pipeline import frames
    frames.load_leaderboard("demo", "dpo")
    frames.query_frame("SELECT * FROM quarantine WHERE source = $source", source="toolace")

Experiments are given by name; with none, all that the database knows are told apart by the column `experiment`.
`storage` is the storage's folder, else the one that the pipeline uses (`ITOOL_STORAGE`). JSON columns are decoded.

Every function raises StorageError when there is no database yet, when a run keeps it for a minute, when DuckDB refuses
the question, or when an experiment is unknown; and NotebookError when pandas is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from itool_pipeline.errors import ActionableError
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.paths import StoragePaths, storage_paths
from itool_pipeline.store.sql_shell import Cursor, ask_database

if TYPE_CHECKING:
    import pandas as pd

_OWN = "SELECT m.experiment, m.asset, m.stale, t.* FROM experiment_artifacts AS m JOIN {table} AS t USING (artifact)"
"""Rows of a table, once for each experiment that has their artifact."""


class NotebookError(ActionableError):
    """What notebooks need is not installed."""


def query_frame(sql: str, /, *, storage: Path | str | None = None, **parameters: object) -> pd.DataFrame:
    """The answer to any question; `$name` in it stands for the parameter of that name."""
    try:
        import pandas  # noqa: F401  an optional dependency: the pipeline itself does without
    except ImportError as error:
        raise NotebookError(
            "DataFrames need pandas: install it with `pip install -c constraints.txt -e '.[notebook]'`"
        ) from error
    paths = storage_paths() if storage is None else StoragePaths(Path(storage).expanduser())
    return ask_database(paths.database, sql, _decoded_frame, parameters=parameters)


def load_experiments(*, storage: Path | str | None = None) -> pd.DataFrame:
    """Every experiment that was run, with its whole config."""
    return query_frame("FROM experiments ORDER BY experiment", storage=storage)


def load_examples(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """What was trained on and held out, with split and difficulty."""
    return _load("FROM experiment_examples", "example_id", experiments, storage)


def load_trees(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """A row for each search tree."""
    return _load(_OWN.format(table="trees"), "asset, tree_id", experiments, storage)


def load_nodes(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """A row for each node of the search trees, with its fragment, visits and values."""
    return _load(_OWN.format(table="nodes"), "asset, tree_id, node_id", experiments, storage)


def load_pairs(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """A row for each preference pair, kept or refused, with the node and the example that it comes from."""
    return _load("FROM pair_lineage", "asset, pair_id", experiments, storage)


def load_cases(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """A row for each test case of each checkpoint: output, verdict, and the type of error where it is wrong."""
    return _load(_OWN.format(table="cases"), "asset, category, case_id", experiments, storage)


def load_leaderboard(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """Accuracy of each checkpoint on each benchmark, with its 95% interval."""
    return _load("FROM leaderboard", "benchmark, sequence", experiments, storage)


def load_error_types(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """How many wrong cases there are of each type (Fig. 3), by checkpoint and category."""
    return _load("FROM error_types", "benchmark, sequence, category, mistake", experiments, storage)


def load_learning_curve(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """Each trained checkpoint with its losses, each scored one with its accuracy."""
    return _load("FROM learning_curve", "benchmark, sequence", experiments, storage)


def load_cost(*experiments: str, storage: Path | str | None = None) -> pd.DataFrame:
    """The seconds that making each asset took."""
    return _load("FROM cost", "materialized_at, asset", experiments, storage)


def _load(source: str, order: str, experiments: Sequence[str], storage: Path | str | None) -> pd.DataFrame:
    """The rows of the experiments named, or of all. Names are parameters: never a part of the SQL."""
    known = list(load_experiments(storage=storage)["experiment"])
    if unknown := sorted(set(experiments) - set(known)):
        raise StorageError(f"no experiment {', '.join(unknown)} was run here; there are: {', '.join(known) or 'none'}")
    wanted = list(experiments) or known
    sql = f"FROM ({source}) WHERE list_contains($wanted, experiment) ORDER BY experiment, {order}"
    return query_frame(sql, storage=storage, wanted=wanted)


def _decoded_frame(cursor: Cursor) -> pd.DataFrame:
    json_columns = [column[0] for column in cursor.description or () if str(column[1]) == "JSON"]
    frame = cursor.df()
    for column in json_columns:
        frame[column] = frame[column].map(json.loads, na_action="ignore")
    return frame

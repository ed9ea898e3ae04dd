"""Rows of the views that tell of one artifact, for steps whose inputs are artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.database import Database

Row = Mapping[str, Any]
"""Column → value."""

FIGURES = frozenset(
    {
        "category_scores",
        "benchmark_scores",
        "category_errors",
        "benchmark_errors",
        "benchmark_failures",
        "benchmark_aggregates",
        "benchmark_calling",
        "tree_signals",
        "pair_truths",
    }
)
"""The views with a column `artifact`."""


def artifact_figures(database: Database, view: str, artifacts: Sequence[str]) -> list[Row]:
    """The rows of the view that belong to these artifacts, in no order. Raises StorageError for an unknown view."""
    if view not in FIGURES:
        raise StorageError(f"no view {view!r} of artifacts' figures; there are {sorted(FIGURES)}")
    with database.read() as connection:
        found = connection.execute(f"SELECT * FROM {view} WHERE list_contains(?, artifact)", [list(artifacts)])
        names = [name for name, *_ in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

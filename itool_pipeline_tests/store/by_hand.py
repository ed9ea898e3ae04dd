"""Artifacts and rows written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact, Manifest
from itool_pipeline.store.rows import Rows

A, B, C, D, E = (letter * 16 for letter in "abcde")
"""Five fingerprints."""


def artifact(asset: str, fingerprint: str, *, run: str = "run-1", seconds: float = 1.0, **inputs: str) -> Artifact:
    """An artifact without files. `inputs`: asset = fingerprint, with `__` for the slash of the asset key."""
    manifest = Manifest(
        asset=asset,
        fingerprint=fingerprint,
        inputs={name.replace("__", "/"): value for name, value in inputs.items()},
        code_version="1",
        run_id=run,
        config={},
        metadata={"count": 3},
        files={},
        created_at="2025-01-01T00:00:00+00:00",
        seconds=seconds,
    )
    return Artifact(asset, fingerprint, Path("nowhere"), manifest)


def load(database: Database, table: str, artifact: str, given: Rows) -> int:
    """Makes these the artifact's rows of one table."""
    return database.replace_many({table: given}, artifact)[table]


def rows(database: Database, table: str, *given: dict[str, Any]) -> list[dict[str, Any]]:
    """The given columns; NULL in all others."""
    with database.read() as connection:
        names = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name != "artifact"]
    for row in given:
        assert set(row) <= set(names), set(row) - set(names)
    return [{name: row.get(name) for name in names} for row in given]


def ask(database: Database, sql: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return connection.execute(sql).fetchall()


def names_in(directory: Path) -> list[str]:
    """What lies in the directory, sorted, but for what is hidden."""
    return sorted(path.name for path in directory.glob("[!.]*"))

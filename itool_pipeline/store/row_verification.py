"""Whether the database holds what the artifacts say: the rows of each are loaded again, elsewhere, and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.files.storage_errors import explaining_full_disk
from itool_pipeline.store.database import Database
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows
from itool_pipeline.store.schema import State, state_of
from itool_pipeline.store.table_types import ARTIFACT
from itool_pipeline.store.tables import TABLES

RowsOf = Callable[[Artifact], Mapping[str, Rows]]
"""An artifact → table → its rows."""


@dataclass(frozen=True, slots=True)
class RowVerification:
    """The artifacts whose rows were compared, and what differs.

    compared    artifacts that the database knows, and that have rows
    not_loaded  artifacts that it does not know; the next run that uses one loads its rows
    different   artifact → table → (rows of the artifact that the database lacks, rows there that it does not have)
    """

    compared: int
    not_loaded: int
    different: Mapping[str, Mapping[str, tuple[int, int]]]

    def lines(self) -> list[str]:
        """A line for each table of each artifact that differs."""
        return [
            f"{artifact}: {table} lacks {lacking} of its rows and has {other} that it has not"
            for artifact, tables in self.different.items()
            for table, (lacking, other) in tables.items()
        ]


def remedy(database: Path) -> str:
    """What to do about rows that differ."""
    return (
        f"Delete {database} and run the experiments again: finished artifacts are reused, and their rows are loaded "
        "into a new file."
    )


def verify_rows(
    database: Database, artifacts: Iterable[Artifact], rows_of: RowsOf, progress: Progress = no_progress
) -> RowVerification | None:
    """Hold the rows of whole artifacts against those in the database, value by value, however often each is there.

    None when there is no database of today's tables: the next run makes one. Nothing is changed; a connection lasts
    for one artifact, and `progress` is called with (artifacts done, total). Raises DatabaseLocked when another process
    does not let go of the file, and StorageError when it cannot be read, the disk is full or rows do not fit.
    """
    compared, not_loaded, different = 0, 0, dict[str, Mapping[str, tuple[int, int]]]()
    wanted = list(artifacts)
    with tempfile.TemporaryDirectory(prefix="itool_rows.") as folder:
        loaded = Database(Path(folder) / "loaded.duckdb")
        for done, artifact in enumerate(wanted, 1):
            known = _is_known(database, artifact)
            if known is None:
                return None
            not_loaded += not known
            if known and (rows := rows_of(artifact)):
                compared += 1
                if found := _differences(database, loaded, artifact, rows):
                    different[f"{artifact.asset} {artifact.fingerprint}"] = found
            progress(done, len(wanted))
    return RowVerification(compared, not_loaded, different)


def _is_known(database: Database, artifact: Artifact) -> bool | None:
    """Whether it is recorded, or any row says that it is its own; None without a database of today's tables."""
    if not database.path.exists():
        return None
    with database.read_as_it_is() as connection:
        if state_of(connection, database.path) not in (State.CURRENT, State.OLD_VIEWS):
            return None
        tables = ["materializations", *(table.name for table in TABLES.values() if table.made_by)]
        asked = " UNION ALL ".join(f"(SELECT 1 FROM {table} WHERE {ARTIFACT} = $1 LIMIT 1)" for table in tables)
        return connection.execute(f"{asked} LIMIT 1", [artifact.fingerprint]).fetchone() is not None


def _differences(
    database: Database, loaded: Database, artifact: Artifact, rows: Mapping[str, Rows]
) -> dict[str, tuple[int, int]]:
    """Table → rows that are missing there, rows that are too many; of the tables where there are any."""
    loaded.replace_many(rows, artifact.fingerprint)
    with explaining_full_disk("a comparison of rows", loaded.path), database.read_as_it_is() as connection:
        connection.execute(f"SET temp_directory = '{_quoted(loaded.path.parent)}'")
        connection.execute(f"ATTACH '{_quoted(loaded.path)}' AS loaded (READ_ONLY)")
        stored = connection.execute("SELECT current_database()").fetchone()
        assert stored is not None
        tables = [table for table in TABLES.values() if table.made_by]
        found = {t.name: _compared(connection, f'"{stored[0]}"', t.name, artifact, t.names) for t in tables}
    loaded.replace_many(dict.fromkeys(rows, ()), artifact.fingerprint)
    return {table: counts for table, counts in found.items() if any(counts)}


def _compared(
    connection: duckdb.DuckDBPyConnection, stored: str, table: str, artifact: Artifact, columns: Iterable[str]
) -> tuple[int, int]:
    names = ", ".join(columns)
    here, there = (f"SELECT {names} FROM {place}.main.{table} WHERE {ARTIFACT} = $1" for place in ("loaded", stored))
    lacking, other = (f"(SELECT count(*) FROM ({a} EXCEPT ALL {b}))" for a, b in ((here, there), (there, here)))
    counted = connection.execute(f"SELECT {lacking}, {other}", [artifact.fingerprint]).fetchone()
    assert counted is not None
    return int(counted[0]), int(counted[1])


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")

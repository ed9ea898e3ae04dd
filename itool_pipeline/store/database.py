"""The DuckDB file: short transactions, one writer at a time.

While one process has the file open to write, no other can even read it. So a connection lives for one short
transaction, and a file that someone else has open is waited for, with a message that names the holder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from itool_pipeline.files.durable import write_whole
from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.locks import Say, file_lock
from itool_pipeline.files.storage_errors import StorageError, explaining_full_disk
from itool_pipeline.store.holder import damaged_message, is_damage, locked_message, unreadable_message, why_locked
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows, replace_rows
from itool_pipeline.store.schema import State, create, move_aside, state_of, write_views

logger = logging.getLogger(__name__)

REMIND_SECONDS = 30.0
MEMORY_LIMIT = "512MB"
"""Of DuckDB, which without a limit holds a whole load of rows; beyond it it writes to a file beside the database."""
_THREADS = threading.RLock()
"""DuckDB refuses a reading connection beside a writing one in the same process; threads take turns."""


class DatabaseLocked(StorageError):
    """Another process kept the file open for longer than we wait."""


class Database:
    """The DuckDB file at `path`, made when first used. `say` hears of waiting; `wait_seconds` bounds it."""

    def __init__(self, path: Path, *, wait_seconds: float = 600.0, say: Say = logger.warning) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._say = say

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection inside BEGIN … COMMIT; an exception rolls everything back. Keep it short, do not nest it.

        Raises DatabaseLocked when another process does not let go of the file, StorageError when the disk is full, or
        the file is damaged or belongs to a newer version of this program.
        """
        with (
            _THREADS,
            explaining_full_disk("a load of rows", self.path),
            self._explaining_damage(),
            self._writable() as connection,
        ):
            connection.execute("BEGIN TRANSACTION")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection; readers do not exclude one another. An absent file is made first, empty.

        Raises DatabaseLocked and StorageError as `transaction` does.
        """
        with _THREADS:
            if not self._readable():
                with self.transaction():
                    pass
            with self.read_as_it_is() as connection:
                yield connection

    @contextmanager
    def read_as_it_is(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the file that is there, of whatever version; nothing is made or moved.

        Raises DatabaseLocked and StorageError as `transaction` does.
        """
        with _THREADS, self._explaining_damage():
            connection = self._connect(read_only=True)
            try:
                yield connection
            finally:
                connection.close()

    def replace_many(self, rows: Mapping[str, Rows], artifact: str) -> dict[str, int]:
        """Makes `rows` the artifact's only rows of each table named, all in one transaction; returns their counts.

        `rows` maps a table to an arrow table, a list of dicts, or a list of Parquet files, with exactly the table's
        columns but `artifact`. In dicts, JSON columns take any JSON-like value; a `str` there is JSON text already.
        Other artifacts' rows stay as they are. Raises StorageError, and changes nothing, when something does not fit.
        """
        with self.transaction() as connection:
            return {table: replace_rows(connection, table, artifact, content) for table, content in rows.items()}

    def has(self, experiment: str, asset: str, artifact: str) -> bool:
        """Whether the artifact is recorded as the experiment's latest of the asset."""
        with self.read() as connection:
            asked = "SELECT count(*) > 0 FROM materializations WHERE (experiment, asset, artifact) = (?, ?, ?)"
            ((known,),) = connection.execute(asked, [experiment, asset, artifact]).fetchall()
            return bool(known)

    def record_experiment(self, experiment: str, description: str, config: Any, assets: Collection[str]) -> None:
        """Inserts or updates the experiment's row, and forgets what it had of assets that are not in `assets`.

        `config` is a pydantic model or JSON-like. An experiment that now has fewer iterations loses the later ones
        from the leaderboard; the artifacts and their rows stay.
        """
        with self.transaction() as connection:
            connection.execute(
                "DELETE FROM materializations WHERE experiment = ? AND NOT list_contains(?, asset)",
                [experiment, list(assets)],
            )
            connection.execute(
                "INSERT OR REPLACE INTO experiments (experiment, description, config, updated_at) VALUES (?, ?, ?, ?)",
                [experiment, description, to_json(config), _now()],
            )

    def record_materialization(self, experiment: str, artifact: Artifact, *, run_id: str, reused: bool) -> None:
        """Says that `experiment` now has `artifact`, made or reused by the run; and what the artifact was made from.

        Raises StorageError when the same fingerprint is known as another asset: rows could not be told apart.
        """
        manifest = artifact.manifest
        made = [artifact.fingerprint, run_id, manifest.run_id, reused, manifest.seconds]
        with self.transaction() as connection:
            _refuse_two_assets(connection, artifact)
            connection.execute(
                """INSERT OR REPLACE INTO materializations (experiment, asset, artifact, run_id, made_by_run, reused,
                seconds, materialized_at, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                [experiment, artifact.asset, *made, _now(), to_json(manifest.metadata)],
            )
            connection.execute("DELETE FROM lineage WHERE artifact = ?", [artifact.fingerprint])
            for asset, fingerprint in manifest.inputs.items():
                row = [artifact.fingerprint, artifact.asset, fingerprint, asset]
                connection.execute("INSERT INTO lineage VALUES (?, ?, ?, ?)", row)

    @contextmanager
    def _explaining_damage(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if is_damage(error):
                raise StorageError(damaged_message(self.path, error)) from error
            raise

    @contextmanager
    def _writable(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A writing connection to a file with today's tables and views."""
        self._begin()
        connection = self._connect(read_only=False)
        try:
            state = state_of(connection, self.path)
            if state is State.OLD_TABLES:
                aside = move_aside(connection, self.path)
                connection.close()
                self._begin()
                connection = self._connect(read_only=False)
                self._say(
                    f"{self.path} has the tables of an older version: moved to {aside.name}. Materialize again to load "
                    "the rows into a new file; finished artifacts are reused."
                )
            elif state is State.EMPTY:
                create(connection)
            elif state is State.OLD_VIEWS:
                write_views(connection)
            yield connection
        finally:
            connection.close()

    def _begin(self) -> None:
        """Makes the file where there is none, whole: one that a full disk cut short could never be opened again.

        Raises StorageError where the path is a link to nowhere.
        """
        if self.path.exists():
            return
        if self.path.is_symlink():
            raise StorageError(
                f"{self.path} is a link to {self.path.readlink()}, which is not there: mount the disk that it is on, "
                "or remove the link, and a new file is made"
            )
        with file_lock(self.path.with_name(f".{self.path.name}.lock"), f"the new {self.path.name}", self._say):
            if not self.path.exists():
                write_whole(self.path, _write_empty, alone=True)

    def _readable(self) -> bool:
        """Whether the file is there with today's tables and views."""
        if not self.path.exists():
            return False
        with self.read_as_it_is() as connection:
            return state_of(connection, self.path) is State.CURRENT

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Tries until the file is free or `wait_seconds` are over."""
        start = time.monotonic()
        pause, next_word = 0.05, 0.0
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only, config={"memory_limit": MEMORY_LIMIT})
            except duckdb.Error as error:
                holder = why_locked(error)
                if holder is None:
                    raise StorageError(unreadable_message(self.path, error)) from error
                waited = time.monotonic() - start
                if waited >= self.wait_seconds:
                    raise DatabaseLocked(locked_message(self.path, holder, waited)) from error
                if waited >= next_word:
                    self._say(f"Waiting for {self.path}: open in {holder}. Close it there, and this goes on.")
                    next_word = waited + REMIND_SECONDS
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _write_empty(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        create(connection)
        connection.execute("CHECKPOINT")  # all of it into the one file


def _refuse_two_assets(connection: duckdb.DuckDBPyConnection, artifact: Artifact) -> None:
    other = connection.execute(
        "SELECT asset FROM materializations WHERE artifact = ? AND asset <> ?", [artifact.fingerprint, artifact.asset]
    ).fetchone()
    if other is not None:
        raise StorageError(
            f"artifact {artifact.fingerprint} of {artifact.asset} is already known as {other[0]}: "
            "the asset's name must enter the fingerprint"
        )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)

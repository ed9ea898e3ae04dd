"""Where the storage is. No other module builds these paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from itool_pipeline.files.storage_errors import StorageError

VARIABLE = "ITOOL_STORAGE"


@dataclass(frozen=True, slots=True)
class StoragePaths:
    """The places under one storage root. Nothing is created here: the writer of a file makes its directory."""

    root: Path

    @property
    def downloads(self) -> Path:
        """Wheels and data sets as fetched; safe to delete, they are fetched again."""
        return self.root / "downloads"

    @property
    def artifacts(self) -> Path:
        """Root of the ArtifactStore."""
        return self.root / "artifacts"

    @property
    def database(self) -> Path:
        """The DuckDB file."""
        return self.root / "itool.duckdb"

    @property
    def experiments(self) -> Path:
        """Experiment files that `run --set` wrote."""
        return self.root / "experiments"

    @property
    def machines(self) -> Path:
        """What was measured of the machines that use the storage; safe to delete, it is measured again."""
        return self.root / "machines"

    @property
    def exports(self) -> Path:
        """Folders of exported models, by experiment."""
        return self.root / "exports"

    def run_lock(self, run_id: str) -> Path:
        """Locked by the process of a Dagster run while it works."""
        return self.root / "runs" / f"{run_id}.lock"

    @property
    def logs(self) -> Path:
        return self.root / "logs"


def storage_paths() -> StoragePaths:
    """Paths under `ITOOL_STORAGE`, or under `storage/` of the repository that this package lies in.

    Raises StorageError when the variable's bytes are no text, which neither a manifest nor the database can hold, and
    when the package is installed outside its repository and the variable is not set.
    """
    if given := os.environ.get(VARIABLE):
        if any("\udc80" <= letter <= "\udcff" for letter in given):  # how Python keeps bytes that are no UTF-8
            raise StorageError(f"{VARIABLE} is {given!r}, which is no text in UTF-8: name another directory")
        return StoragePaths(Path(given).expanduser().resolve())
    repository = Path(__file__).resolve().parents[2]
    if not (repository / "pyproject.toml").is_file():
        raise StorageError(f"itool_pipeline is installed outside its repository: set {VARIABLE} to a directory")
    return StoragePaths(repository / "storage")

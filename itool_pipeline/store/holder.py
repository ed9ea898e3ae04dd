"""Why the DuckDB file cannot be opened or used, out of DuckDB's own message."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from itool_pipeline.files.storage_errors import is_disk_full

_OF_DAMAGE = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)


def why_locked(error: Exception) -> str | None:
    """The holder, as `process 123 (/usr/bin/duckdb)`; None when `error` is not about the file's lock."""
    text = str(error)
    if "Could not set lock on file" not in text:
        return None
    found = re.search(r"lock is held in (.+?) \(PID (\d+)\)", text)
    return f"process {found[2]} ({found[1]})" if found else "another process"


def locked_message(path: Path, holder: str, waited: float) -> str:
    """What to do when the holder does not let go."""
    return (
        f"{path} is still open in {holder} after {waited:.0f} seconds, and DuckDB lets one process at a time write. "
        "Close it there (in a DuckDB shell: .quit; in a notebook: connection.close()), or end that process, then run "
        "again: finished artifacts are reused. To read beside a running pipeline, use "
        '`python -m itool_pipeline sql "…"`, which lets go after each query.'
    )


def unreadable_message(path: Path, error: Exception) -> str:
    """What to do about a file that DuckDB does not open and that nobody holds."""
    return (
        f"{path} cannot be opened: {str(error).strip().splitlines()[0]} Let the user of this process read and write "
        "it; if it is damaged, move it away and run again: a new one is filled from the artifacts, which are reused."
    )


def is_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB met something in the file that it did not write, which it may do at any page.

    A disk that is full in the midst of a checkpoint is as fatal to it, and is no damage.
    """
    return not is_disk_full(error) and (isinstance(error, _OF_DAMAGE) or "Corrupt database file" in str(error))


def damaged_message(path: Path, error: Exception) -> str:
    """What to do about a file that opens, and whose pages are not what was written."""
    return (
        f"{path} is damaged: {str(error).strip().splitlines()[0].rstrip('.')}. Move it away and run again: a new one "
        "is filled from the artifacts, which are reused. Look at the disk."
    )

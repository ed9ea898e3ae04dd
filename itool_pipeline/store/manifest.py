"""What an artifact is: its manifest, its files, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from itool_pipeline.files.durable import SCRATCH
from itool_pipeline.files.hashes import file_sha256, known_sha256
from itool_pipeline.files.storage_errors import is_damage
from itool_pipeline.store.fingerprint import fingerprint_of

MANIFEST = "manifest.json"
PARTS = "parts"


class FileEntry(BaseModel):
    """Size in bytes, and sha256 (hex); older manifests have none for files of 64 MiB and more."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int
    sha256: str | None


class Manifest(BaseModel):
    """What an artifact is and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    asset: str
    fingerprint: str
    inputs: dict[str, str]
    """asset → fingerprint of each artifact that was read"""
    code_version: str
    run_id: str
    """the Dagster run that made it"""
    config: Any
    """the config section, for people"""
    metadata: dict[str, Any]
    """JSON summary for the UI"""
    files: dict[str, FileEntry]
    created_at: str
    """ISO 8601, UTC"""
    seconds: float
    """of the attempt that finished it"""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact: whole when it was found."""

    asset: str
    fingerprint: str
    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of one of its files. Raises KeyError, with the names there are, for any other name."""
        if name not in self.manifest.files:
            raise KeyError(
                f"{self.asset} {self.fingerprint} has no file {name!r}; it has {sorted(self.manifest.files)}"
            )
        return self.path / name


@dataclass(frozen=True, slots=True)
class Origin:
    """What determines an artifact (inputs, code version, config), and the run that makes it."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    code_version: str = ""
    config: Any = None
    run_id: str = ""

    def fingerprint(self, asset: str) -> str:
        """The artifact's fingerprint: of all but the run, with the asset, so that no two assets share one."""
        return fingerprint_of(asset=asset, inputs=self.inputs, code_version=self.code_version, config=self.config)


def load_artifact(asset: str, fingerprint: str, path: Path) -> Artifact | None:
    """The artifact at `path` if its manifest is whole and its own. Raises OSError when it may not be read."""
    try:
        manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    except OSError as error:
        if not is_damage(error):
            raise
        return None
    if (manifest.asset, manifest.fingerprint) != (asset, fingerprint):
        return None
    return Artifact(asset, fingerprint, path, manifest)


def problems_of(artifact: Artifact, *, deep: bool = False) -> list[str]:
    """What is wrong with the files: missing, of another size, or (`deep`) with another sha256. Empty when whole.

    Raises OSError when a file may not be read: of a damaged one that is said, and the others are looked at too.
    """
    problems = []
    for name, entry in artifact.manifest.files.items():
        path = artifact.path / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != entry.size:
            problems.append(f"{name} has {path.stat().st_size} bytes, not {entry.size}")
        elif deep and entry.sha256 is not None and (problem := _content_problem(path, entry.sha256)):
            problems.append(f"{name} {problem}")
    return problems


def _content_problem(path: Path, sha256: str) -> str:
    try:
        return "" if known_sha256(path) == sha256 else "has another content than when it was written"
    except OSError as error:
        if not is_damage(error):
            raise
        return f"cannot be read: {error.strerror}"


def describe_files(work: Path) -> dict[str, FileEntry]:
    """The files of a finished step, by name relative to `work`: all but its parts and the manifest."""
    entries = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.is_file() and name != MANIFEST and not name.startswith(f"{PARTS}/") and SCRATCH not in name.split("/"):
            entries[name] = FileEntry(size=path.stat().st_size, sha256=file_sha256(path))
    return entries

"""Whether the artifacts are still what was written: every file is held against its artifact's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.errors import words_for
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.artifacts import ArtifactFolder, ArtifactStore
from itool_pipeline.store.manifest import MANIFEST, Artifact, load_artifact, problems_of

REMEDY = (
    "No run uses them: what is needed of them is moved aside and made anew by the next run. Look at the disk, and "
    "delete the folders if you like."
)


@dataclass(slots=True)
class AssetVerification:
    """One asset: its finished artifacts, with their files, and what is wrong with which.

    not_hashed  files of which only the size is compared: all, but in a deep look large ones of older versions
    damaged     folder → its problems
    whole       artifacts without any
    """

    asset: str
    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    not_hashed: int = 0
    damaged: dict[Path, list[str]] = field(default_factory=dict)
    whole: list[Artifact] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoreVerification:
    """Every asset that was looked at, and the folders beside its artifacts that no run takes for one."""

    assets: Sequence[AssetVerification]
    aside: Sequence[ArtifactFolder]

    @property
    def damaged(self) -> dict[Path, list[str]]:
        """Folder → its problems, over all assets."""
        return {path: problems for asset in self.assets for path, problems in asset.damaged.items()}


def verify_store(
    store: ArtifactStore, wanted: Sequence[str] = (), progress: Progress = no_progress, *, deep: bool = False
) -> StoreVerification:
    """Verify the artifacts of the assets `wanted`, or of all: `iteration_1/pairs`, or `iteration_1` for all in it.

    Manifests, files and their sizes are looked at, and (`deep`) the sha256 of each. `progress` is called with
    (artifacts verified, total). Nothing is changed and no lock is taken: an artifact that is taken away meanwhile is
    passed over, and one that may not be read counts with the damaged, and says so. Raises StorageError for an asset
    without a folder, or when there is none, and OSError for a folder that cannot be listed.
    """
    folders = _wanted_folders(store, wanted)
    finished = [folder for folder in folders if folder.state == "finished"]
    assets = {folder.asset: AssetVerification(folder.asset) for folder in finished}
    for done, folder in enumerate(finished, 1):
        _verify(folder, assets[folder.asset], deep)
        progress(done, len(finished))
    return StoreVerification(list(assets.values()), [folder for folder in folders if folder.state != "finished"])


def _wanted_folders(store: ArtifactStore, wanted: Iterable[str]) -> list[ArtifactFolder]:
    folders = store.artifact_folders()
    if not folders:
        raise StorageError(f"{store.root}: no artifacts yet; run an experiment first, for example `make demo`")
    groups = {name: [folder for folder in folders if folder.is_of(name)] for name in wanted}
    if unknown := [name for name, found in groups.items() if not found]:
        there = ", ".join(dict.fromkeys(folder.asset for folder in folders))
        raise StorageError(f"{store.root} has no artifact of {', '.join(unknown)}; name one of {there}")
    return [f for f in folders if not groups or any(f.is_of(name) for name in groups)]


def _verify(folder: ArtifactFolder, asset: AssetVerification, deep: bool) -> None:
    artifact = None
    try:
        artifact = load_artifact(folder.asset, folder.fingerprint, folder.path)
        problems = problems_of(artifact, deep=deep) if artifact else [f"{MANIFEST} is missing or torn"]
    except OSError as error:  # the others are looked at all the same
        problems = [f"not looked at, as it may not be read: {words_for(error) or error}"]
    if problems and not folder.path.exists():
        return
    entries = list(artifact.manifest.files.values()) if artifact else []
    asset.artifacts += 1
    asset.files += len(entries)
    asset.bytes += sum(entry.size for entry in entries)
    asset.not_hashed += sum(not deep or entry.sha256 is None for entry in entries)
    if problems:
        asset.damaged[folder.path] = problems
    elif artifact:
        asset.whole.append(artifact)

"""Every file that is no longer what was written is found, whatever else is in the store."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline import __main__ as command_line
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.manifest import MANIFEST, Artifact, Manifest, Origin
from itool_pipeline.store.verification import verify_store
from itool_pipeline_tests.store.by_hand import A, B, C

Verify = Callable[..., int]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Three artifacts of two assets, among them a large file, and a folder of each kind that is no artifact."""
    store = ArtifactStore(tmp_path / "artifacts")
    put(store, "iteration_1/pairs", A, rows=b"12345", deep__rows=b"")
    put(store, "iteration_1/pairs", B, rows=b"123")
    large = put(store, "base_model", A, config=b"{}")
    with store.parts("base_model", C) as parts:
        parts.write_text("shard", "x")
    for state in ("damaged", "superseded"):
        (large.path.parent / f"{C}.{state}").mkdir()
    return store


def put(store: ArtifactStore, asset: str, fingerprint: str, **files: bytes) -> Artifact:
    """An artifact with these files; `__` in a name for a slash."""

    def make(step: Step) -> dict[str, Any]:
        for name, content in files.items():
            path = step.work / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return {}

    return reuse_or_make(store, asset, fingerprint, make, origin=Origin())[0]


@pytest.fixture
def verify(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The command on that store."""
    monkeypatch.setenv("ITOOL_STORAGE", str(store.root.parent))

    def call(*assets: str) -> int:
        monkeypatch.setattr("sys.argv", ["itool_pipeline", "verify", *assets])
        return command_line.main()

    return call


def test_a_whole_store_is_counted(verify: Verify, store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--deep") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "asset              artifacts  files  bytes  only size compared  damaged",
        "-----------------  ---------  -----  -----  ------------------  -------",
        "base_model                 1      1      2                   0        0",
        "iteration_1/pairs          2      3      8                   0        0",
        "(2 rows)",
        "",
        "No artifacts, and never taken for one:",
        f"damaged    {store.root / 'base_model' / C}.damaged",
        f"partial    {store.root / 'base_model' / C}.partial",
        f"superseded {store.root / 'base_model' / C}.superseded",
        "",
        "There is no database with today's tables to compare rows with: the next run makes one.",
    ]
    assert shown.err == "3 of 3 artifacts verified in 0 s\n"


def test_a_flipped_byte_is_found_by_a_deep_look_and_by_whoever_would_use_it(
    verify: Verify, store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    file = store.root / "iteration_1" / "pairs" / A / "rows"
    file.write_bytes(b"12645")
    assert store.find("iteration_1/pairs", A) is None
    assert verify() == 0
    assert capsys.readouterr().out.splitlines()[3].split() == ["iteration_1/pairs", "2", "3", "8", "3", "0"]
    assert verify("--deep") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[3].split() == ["iteration_1/pairs", "2", "3", "8", "0", "1"]
    assert shown[-5:-3] == ["Damaged:", f"{file.parent}: rows has another content than when it was written"]
    assert shown[-3].startswith("No run uses them: what is needed of them is moved aside and made anew by the next")


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EBADMSG])
def test_missing_and_unreadable_files_and_torn_manifests_are_found(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    first, second, third = (store.root / "iteration_1" / "pairs" / A, store.root / "base_model" / A, B)
    (first / "rows").unlink()
    manifest = second / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:50])

    def refuse(path: Path) -> str:
        raise OSError(number, "refused by the disk")

    monkeypatch.setattr("itool_pipeline.store.manifest.known_sha256", refuse)
    assert verify_store(store, deep=True).damaged == {
        second: ["manifest.json is missing or torn"],
        first: ["deep/rows cannot be read: refused by the disk", "rows is missing"],
        first.with_name(third): ["rows cannot be read: refused by the disk"],
    }


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("read", ["manifest", "file"])
def test_what_may_not_be_read_is_not_taken_for_damaged(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int, read: str
) -> None:
    """Else hours of training would be moved aside, and done again, for want of a right or of a free descriptor."""

    def refuse(path: Path) -> bytes:
        raise OSError(number, "refused", str(path))

    if read == "file":
        monkeypatch.setattr("itool_pipeline.store.manifest.known_sha256", refuse)
    else:
        monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OSError, match="refused"):
        store.find("iteration_1/pairs", A)
    with pytest.raises(OSError, match="refused"), store.open("iteration_1/pairs", A):
        pass
    told = verify_store(store, deep=True).damaged
    assert len(told) == 3, "each is looked at"
    assert all(problem.startswith("not looked at, as it may not be read: ") for (problem,) in told.values())
    monkeypatch.undo()
    assert store.find("iteration_1/pairs", A) is not None


def test_a_folder_in_the_place_of_a_manifest_is_damage(store: ArtifactStore) -> None:
    manifest = store.root / "base_model" / A / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    assert store.find("base_model", A) is None
    assert verify_store(store).damaged == {manifest.parent: ["manifest.json is missing or torn"]}


def test_an_asset_that_was_moved_to_another_disk_is_looked_at_too(store: ArtifactStore, tmp_path: Path) -> None:
    asset = store.root / "iteration_1"
    asset.rename(tmp_path / "elsewhere")
    asset.symlink_to(tmp_path / "elsewhere")
    (asset / "pairs" / A / "rows").write_bytes(b"12645")
    assert verify_store(store, deep=True).damaged.keys() == {asset / "pairs" / A}


def test_a_link_that_leads_back_shows_nothing_twice(store: ArtifactStore) -> None:
    before = store.artifact_folders()
    (store.root / "iteration_1" / "loop").symlink_to(store.root)
    assert len(before) == len(store.artifact_folders()) > 0


def test_what_no_asset_can_be_is_not_looked_into(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `lost+found`, which is root's alone, where a disk is mounted."""
    before, listed = store.artifact_folders(), os.scandir
    (store.root / "lost+found" / A).mkdir(parents=True)

    def refuse(path: Any) -> Any:
        assert "lost+found" not in str(path)
        return listed(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert store.artifact_folders() == before


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_folder_that_cannot_be_listed_is_not_passed_over(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("iteration_1"):
            raise OSError(number, "refused", str(path))
        return listed(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(OSError, match="refused"):
        verify_store(store, ["base_model"])


def test_of_files_without_a_hash_only_the_size_is_compared(store: ArtifactStore) -> None:
    """As large ones of older versions are."""
    artifact = put(store, "warmup/hard", A, weights=b"12345")
    entry = artifact.manifest.files["weights"].model_copy(update={"sha256": None})
    older: Manifest = artifact.manifest.model_copy(update={"files": {"weights": entry}})
    (artifact.path / MANIFEST).write_text(older.model_dump_json())
    artifact.file("weights").write_bytes(b"54321")
    (asset,) = verify_store(store, ["warmup"], deep=True).assets
    assert (asset.files, asset.bytes, asset.not_hashed, asset.damaged) == (1, 5, 1, {})
    artifact.file("weights").write_bytes(b"123456")
    assert verify_store(store, ["warmup"]).damaged == {artifact.path: ["weights has 6 bytes, not 5"]}


def test_only_what_is_named_is_looked_at(store: ArtifactStore) -> None:
    put(store, "iteration_10/pairs", A, rows=b"1")
    verified = verify_store(store, ["iteration_1"])
    assert [asset.asset for asset in verified.assets] == ["iteration_1/pairs"]
    assert verified.aside == []
    assert len(verify_store(store, ["iteration_1/pairs", "base_model"]).assets) == 2


def test_what_is_in_an_artifact_is_no_artifact(store: ArtifactStore) -> None:
    inner = store.root / "base_model" / A / "cases" / B
    inner.mkdir(parents=True)
    (asset,) = verify_store(store, ["base_model"]).assets
    assert (asset.artifacts, asset.damaged) == (1, {})


def test_an_artifact_that_is_taken_away_meanwhile_is_passed_over(store: ArtifactStore) -> None:
    def take_away(done: int, total: int) -> None:
        if done == 1:
            store.discard("iteration_1/pairs", A)

    verified = verify_store(store, progress=take_away)
    assert [(asset.asset, asset.artifacts) for asset in verified.assets] == [
        ("base_model", 1),
        ("iteration_1/pairs", 1),
    ]
    assert not verified.damaged


def test_unknown_assets_and_an_empty_store_are_said(
    verify: Verify, store: ArtifactStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("base_model", "iteration_2/pairs") == 2
    message = f"{store.root} has no artifact of iteration_2/pairs; name one of base_model, iteration_1/pairs\n"
    assert capsys.readouterr().err == message
    with pytest.raises(StorageError, match=r"no artifacts yet; run an experiment first"):
        verify_store(ArtifactStore(tmp_path / "nothing"))

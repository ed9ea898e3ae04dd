from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline.files.ticket_folder import TicketFolder
from itool_pipeline.files.ticket_line import LOST
from itool_pipeline.files.ticket_lock import LockLost
from itool_pipeline.store.artifacts import ArtifactStore, Step, reuse_or_make
from itool_pipeline.store.manifest import Artifact, Origin
from itool_pipeline_tests.store.by_hand import A, B, names_in

ASSET = "iteration_1/trees"
ORIGIN = Origin(inputs={"splits": B}, code_version="3", config={"width": 3}, run_id="run-7")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def make(step: Step) -> dict[str, Any]:
    step.parts.write_text("shard_0", "part")
    (step.work / "deep").mkdir(exist_ok=True)
    (step.work / "deep" / "trees.txt").write_text("three")
    (step.work / "empty").touch()
    return {"trees": 3}


def never(step: Step) -> dict[str, Any]:
    raise AssertionError("made again")


def made(store: ArtifactStore) -> Artifact:
    return reuse_or_make(store, ASSET, A, make, origin=ORIGIN)[0]


def test_made_once_then_reused(store: ArtifactStore) -> None:
    first, reused = reuse_or_make(store, ASSET, A, make, origin=ORIGIN)
    assert not reused
    second, reused = reuse_or_make(store, ASSET, A, never, origin=ORIGIN)
    assert reused
    assert second == first == store.find(ASSET, A)


def test_layout_and_manifest(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = made(store)
    folder = tmp_path / "iteration_1" / "trees" / A
    assert artifact.path == folder
    assert sorted(p.name for p in folder.iterdir()) == ["deep", "empty", "manifest.json"]
    assert sorted(p.name for p in folder.parent.iterdir()) == [A, f"{A}.tickets"]
    written = json.loads((folder / "manifest.json").read_text())
    assert written["files"] == {
        "deep/trees.txt": {"size": 5, "sha256": hashlib.sha256(b"three").hexdigest()},
        "empty": {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
    }
    assert {key: written[key] for key in ("asset", "fingerprint", "inputs", "code_version", "run_id")} == {
        "asset": ASSET,
        "fingerprint": A,
        "inputs": {"splits": B},
        "code_version": "3",
        "run_id": "run-7",
    }
    assert (written["config"], written["metadata"]) == ({"width": 3}, {"trees": 3})
    assert artifact.file("deep/trees.txt").read_text() == "three"
    with pytest.raises(KeyError, match=r"deep/trees\.txt"):
        artifact.file("other")


def test_an_exception_keeps_the_parts_and_finishes_nothing(store: ArtifactStore) -> None:
    def broken(step: Step) -> dict[str, Any]:
        step.parts.write_json("shard_0.json", [1])
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        reuse_or_make(store, ASSET, A, broken, origin=ORIGIN)
    assert store.find(ASSET, A) is None

    def go_on(step: Step) -> dict[str, Any]:
        return {"found": step.parts.read_json("shard_0.json")}

    artifact, reused = reuse_or_make(store, ASSET, A, go_on, origin=ORIGIN)
    assert not reused
    assert artifact.manifest.metadata == {"found": [1]}


@pytest.mark.parametrize(
    "damage", ["no manifest", "torn manifest", "other's manifest", "missing", "truncated", "changed"]
)
def test_a_damaged_artifact_is_not_reused_but_moved_aside(store: ArtifactStore, damage: str) -> None:
    folder = made(store).path
    manifest, file = folder / "manifest.json", folder / "deep" / "trees.txt"
    text = manifest.read_text()
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "torn manifest":
        manifest.write_text(text[: len(text) // 2])
    elif damage == "other's manifest":
        manifest.write_text(text.replace(A, B, 1))
    elif damage == "missing":
        file.unlink()
    else:
        file.write_text("thr" if damage == "truncated" else "eerht")
    assert store.find(ASSET, A) is None
    assert (store.find(ASSET, A, deep=False) is not None) == (damage == "changed")
    said: list[str] = []
    artifact, reused = reuse_or_make(store, ASSET, A, make, origin=ORIGIN, say=said.append)
    assert not reused
    assert artifact.file("deep/trees.txt").read_text() == "three"
    assert folder.with_name(f"{A}.damaged").is_dir()
    (told,) = said
    assert told.startswith(f"{folder} is damaged (")
    assert told.endswith(f"): moved aside to {A}.damaged, making it again.")


def test_a_sealed_artifact_that_was_damaged_before_its_rename_is_made_again(store: ArtifactStore) -> None:
    folder = made(store).path
    sealed = folder.rename(folder.with_name(f"{A}.partial"))
    (sealed / "deep" / "trees.txt").write_text("eerht")
    artifact, reused = reuse_or_make(store, ASSET, A, make, origin=ORIGIN)
    assert not reused
    assert artifact.file("deep/trees.txt").read_text() == "three"


def test_verify_deep_sees_changed_content(store: ArtifactStore) -> None:
    artifact = made(store)
    artifact.file("deep/trees.txt").write_text("THREE")
    assert store.verify(artifact) == []
    assert store.verify(artifact, deep=True) == ["deep/trees.txt has another content than when it was written"]


def test_force_makes_again_from_nothing(store: ArtifactStore) -> None:
    made(store)
    with store.parts(ASSET, A) as parts:
        parts.write_text("stale", "x")

    def again(step: Step) -> dict[str, Any]:
        assert store.find(ASSET, A) is None
        return {"parts": names_in(step.parts.directory)}

    artifact, reused = reuse_or_make(store, ASSET, A, again, origin=ORIGIN, force=True)
    assert not reused
    assert artifact.manifest.metadata == {"parts": []}
    assert list(artifact.manifest.files) == []
    assert not artifact.path.with_name(f"{A}.superseded").exists()


def test_force_keeps_the_old_artifact_until_the_new_one_is_there(store: ArtifactStore) -> None:
    old = made(store)

    def killed(step: Step) -> dict[str, Any]:
        raise KeyboardInterrupt

    for _ in range(2):  # the second time there is none to take out of the way, and the old one is not lost
        with pytest.raises(KeyboardInterrupt):
            reuse_or_make(store, ASSET, A, killed, origin=ORIGIN, force=True)
        assert store.find(ASSET, A) is None
        kept = old.path.with_name(f"{A}.superseded")
        assert (kept / "deep" / "trees.txt").read_text() == "three"
    made(store)
    assert not kept.exists()


def test_discard_takes_the_artifact_away_and_drops_the_parts(store: ArtifactStore, tmp_path: Path) -> None:
    made(store)
    with store.parts(ASSET, A) as parts:
        parts.write_text("shard_1", "x")
    store.discard(ASSET, A)
    store.discard(ASSET, A)
    assert sorted(p.name for p in (tmp_path / ASSET).iterdir()) == [f"{A}.superseded", f"{A}.tickets"]


def test_the_lock_file_of_an_older_version_is_in_nobodys_way(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / ASSET).mkdir(parents=True)
    (tmp_path / ASSET / f"{A}.lock").write_text("process 7 on node")
    made(store)
    assert [folder.state for folder in store.artifact_folders()] == ["finished"]


def test_reuse_takes_no_lock(store: ArtifactStore, tmp_path: Path) -> None:
    made(store)
    before = names_in(tmp_path / ASSET / f"{A}.tickets")
    reuse_or_make(store, ASSET, A, never, origin=ORIGIN)
    assert names_in(tmp_path / ASSET / f"{A}.tickets") == before


def test_who_was_taken_for_dead_seals_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    """Another machine was let in, and is making the artifact in the same folder."""

    def slow(step: Step) -> dict[str, Any]:
        TicketFolder(tmp_path / ASSET / f"{A}.tickets").close(1, LOST)
        return make(step)

    with pytest.raises(LockLost, match=f"{ASSET} {A}: this process gave no sign of life"):
        reuse_or_make(store, ASSET, A, slow, origin=ORIGIN)
    assert not (tmp_path / ASSET / f"{A}.partial" / "manifest.json").exists()
    assert store.find(ASSET, A) is None


def test_a_rename_into_place_does_not_touch_what_is_there(store: ArtifactStore, tmp_path: Path) -> None:
    """Also when it is lost between the last look at the lock and the rename."""
    first = made(store)
    late = tmp_path / ASSET / f"{A}.partial"
    late.mkdir()
    (late / "trees").write_text("of another")
    with pytest.raises(OSError, match="not empty"):
        Step(ASSET, A, first.path, late, None).finish(ORIGIN, {}, 1.0)
    assert store.find(ASSET, A) == first
    assert store.verify(first, deep=True) == []


def test_workers_share_and_the_gatherer_waits_for_them(store: ArtifactStore) -> None:
    waiting = threading.Event()
    seen: list[list[str]] = []

    def gather(step: Step) -> dict[str, Any]:
        seen.append(names_in(step.parts.directory))
        return {}

    def say(text: str) -> None:
        waiting.set()

    gatherer = threading.Thread(target=lambda: reuse_or_make(store, ASSET, A, gather, origin=ORIGIN, say=say))
    with store.parts(ASSET, A) as one, store.parts(ASSET, A) as other:
        one.write_text("shard_0", "x")
        gatherer.start()
        assert waiting.wait(60)
        other.write_text("shard_1", "y")
    gatherer.join(60)
    assert seen == [["shard_0", "shard_1"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_full_disk_in_a_step(store: ArtifactStore) -> None:
    def full(step: Step) -> dict[str, Any]:
        step.parts.write_text("shard_0", "x")
        Path("/dev/full").write_bytes(b"x")
        return {}

    with pytest.raises(StorageError, match=rf"disk is full: {ASSET} {A}"):
        reuse_or_make(store, ASSET, A, full, origin=ORIGIN)
    with store.parts(ASSET, A) as parts:
        assert names_in(parts.directory) == ["shard_0"]


def test_a_step_may_not_write_the_manifest(store: ArtifactStore) -> None:
    def own(step: Step) -> dict[str, Any]:
        (step.work / "manifest.json").write_text("{}")
        return {}

    with pytest.raises(ValueError, match=r"manifest\.json"):
        reuse_or_make(store, ASSET, A, own, origin=ORIGIN)
    assert store.find(ASSET, A) is None


@pytest.mark.parametrize(("asset", "name"), [("../x", A), ("/x", A), ("x//y", A), ("x", "abc"), ("x", A.upper())])
def test_keys_that_are_no_keys_are_refused(store: ArtifactStore, asset: str, name: str) -> None:
    with pytest.raises(ValueError, match="not an asset key"):
        store.find(asset, name)


def test_origin_names_the_artifact_but_not_the_run() -> None:
    name = ORIGIN.fingerprint(ASSET)
    assert name == Origin(ORIGIN.inputs, ORIGIN.code_version, ORIGIN.config, "another run").fingerprint(ASSET)
    others = {
        ORIGIN.fingerprint("iteration_2/trees"),
        Origin({"splits": A}, "3", {"width": 3}).fingerprint(ASSET),
        Origin({"splits": B}, "4", {"width": 3}).fingerprint(ASSET),
        Origin({"splits": B}, "3", {"width": 4}).fingerprint(ASSET),
    }
    assert len(others | {name}) == 5

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest

from itool_pipeline.files.durable import Parts, StorageError, explaining_full_disk, is_disk_full
from itool_pipeline.files.json_text import to_json
from itool_pipeline.store.paths import storage_paths


def test_parts_are_kept_and_listed(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    assert parts.names() == []
    parts.write_text("b.txt", "grüße")
    parts.write_json("deep/a.json", {"n": (1, 2)})
    parts.write_bytes("b.txt", b"newer")
    assert parts.path("b.txt").read_bytes() == b"newer"
    assert parts.read_json("deep/a.json") == {"n": [1, 2]}
    assert parts.has("deep/a.json")
    assert not parts.has("c")
    assert parts.names() == ["b.txt", "deep"]


def test_a_failed_part_leaves_the_old_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.write_text("a", "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        parts.write("a", fail)
    assert parts.path("a").read_text() == "old"
    assert parts.names() == ["a"]


def test_a_directory_is_a_part_and_is_not_replaced(tmp_path: Path) -> None:
    parts = Parts(tmp_path)

    def fill(path: Path) -> None:
        path.mkdir()
        (path / "weights").write_bytes(b"123")

    parts.write("step_1", fill)
    assert (parts.path("step_1") / "weights").read_bytes() == b"123"
    with pytest.raises(StorageError, match="new name"):
        parts.write("step_1", fill)
    parts.remove("step_1")
    parts.remove("step_1")
    assert parts.names() == []


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", ".tmp/x"])
def test_names_that_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="part's name"):
        Parts(tmp_path).path(name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"disk is full: part 'a' .*ITOOL_STORAGE"):
        Parts(tmp_path).write("a", lambda path: Path("/dev/full").write_bytes(b"x"))
    assert not Parts(tmp_path).has("a")


def test_other_failures_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), explaining_full_disk("x", tmp_path):
        raise PermissionError(errno.EACCES, "no")
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.EIO, "bad disk"))


def test_json_for_duckdb() -> None:
    text = to_json({"a": np.float32(0.5), "b": (math.nan, -math.inf), "c": np.int64(3), "d": True, "e": "é"})
    assert json.loads(text) == {"a": 0.5, "b": ["NaN", "-Infinity"], "c": 3, "d": True, "e": "é"}
    assert "é" in text
    with pytest.raises(TypeError, match="set"):
        to_json({"a": {1}})
    with pytest.raises(TypeError, match="text keys"):
        to_json({1: 2})


def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ITOOL_STORAGE", raising=False)
    repository = Path(__file__).resolve().parents[2]
    assert storage_paths().root == repository / "storage"
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    paths = storage_paths()
    assert paths.database == tmp_path / "itool.duckdb"
    assert {paths.downloads, paths.artifacts, paths.logs} == {tmp_path / n for n in ("downloads", "artifacts", "logs")}
    assert list(tmp_path.iterdir()) == []

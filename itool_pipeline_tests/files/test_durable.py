from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from itool_pipeline.files.durable import remove_tree, write_whole
from itool_pipeline.files.hashes import file_sha256, folder_sha256, joined_sha256, known_sha256
from itool_pipeline.files.json_text import to_json
from itool_pipeline.files.storage_errors import StorageError, explaining_full_disk, is_disk_full
from itool_pipeline.store.paths import storage_paths
from itool_pipeline_tests.store.by_hand import names_in


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    """Nor a device: whoever writes to /dev/null as root has none any more."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="pipe, which a file would replace"):
        write_whole(tmp_path / "pipe", lambda path: path.write_text("new"))
    assert (tmp_path / "pipe").is_fifo()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a"
    write_whole(target, lambda path: path.write_text("old"))

    def fail(path: Path) -> None:
        assert path.name == target.name
        path.write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_whole(target, fail)
    assert target.read_text() == "old"
    assert names_in(target.parent) == ["a"]
    assert list((target.parent / ".tmp").iterdir()) == []
    write_whole(target, lambda path: path.write_text("new"))
    assert target.read_text() == "new"


def test_a_directory_is_whole_and_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "step_1"

    def fill(path: Path) -> None:
        assert not target.exists()
        path.mkdir()
        (path / "weights").write_bytes(b"123")

    assert write_whole(target, fill) == target
    assert (target / "weights").read_bytes() == b"123"
    with pytest.raises(StorageError, match="new name"):
        write_whole(target, fill)
    remove_tree(target)
    remove_tree(target)
    assert names_in(tmp_path) == []


def test_who_writes_alone_removes_what_a_kill_left_of_this_name_only(tmp_path: Path) -> None:
    mine, other = tmp_path / ".tmp" / "a.killed" / "a", tmp_path / ".tmp" / "b.at_work" / "b"
    for half in (mine, other):
        half.parent.mkdir(parents=True)
        half.write_text("half")
    write_whole(tmp_path / "a", lambda path: path.write_text("whole"))
    assert mine.exists()
    write_whole(tmp_path / "a", lambda path: path.write_text("whole"), alone=True)
    assert not mine.exists()
    assert other.exists()


def test_the_content_is_on_the_disk_before_the_name_is_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    rename = Path.replace

    def note_sync(descriptor: int) -> None:
        done.append(("sync", os.fstat(descriptor).st_ino))

    def note_rename(source: Path, target: Path) -> Path:
        done.append(("rename", source.stat().st_ino))
        return rename(source, target)

    def fill(path: Path) -> None:
        path.mkdir()
        (path / "weights").write_bytes(b"123")

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    target = write_whole(tmp_path / "step_1", fill)
    file, directory, names = ((path.stat().st_ino) for path in (target / "weights", target, tmp_path))
    assert done == [("sync", file), ("sync", directory), ("rename", directory), ("sync", names)]


def test_a_removal_that_is_killed_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "step_1"
    target.mkdir()
    (target / "weights").touch()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_tree(target)
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1  # half-removed, under no name of anything
    target.mkdir()
    remove_tree(target)
    assert list(tmp_path.iterdir()) == []


def test_other_failures_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), explaining_full_disk("x", tmp_path):
        raise PermissionError(errno.EACCES, "no")
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.EIO, "bad disk"))


def test_hashes_are_of_content_and_where_asked_of_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" * 3_000_000)
    other.write_bytes(b"y")
    assert file_sha256(one) == joined_sha256([one]) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert joined_sha256([one, other]) == hashlib.sha256(b"x" * 3_000_000 + b"y").hexdigest()
    listed = f"one {file_sha256(one)}\nother {file_sha256(other)}\n".encode()
    assert folder_sha256(tmp_path, [one, other]) == hashlib.sha256(listed).hexdigest()


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


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, reads = tmp_path / "a", list[Path]()

    def read(paths: Iterable[Path]) -> str:
        reads.extend(paths)
        return joined_sha256([file])

    monkeypatch.setattr("itool_pipeline.files.hashes.joined_sha256", read)

    def write(text: str, written_at: float) -> str:
        file.write_text(text)
        os.utime(file, (written_at, written_at))
        return hashlib.sha256(text.encode()).hexdigest()

    first = write("one", 1e9)
    assert [known_sha256(file), known_sha256(file)] == [first, first]
    assert len(reads) == 1
    second = write("two", 1e9 + 1)
    assert known_sha256(file) == second
    assert len(reads) == 2
    replaced = tmp_path / "b"
    replaced.write_text("3rd")
    os.utime(replaced, (1e9 + 1, 1e9 + 1))
    replaced.replace(file)
    assert known_sha256(file) == hashlib.sha256(b"3rd").hexdigest(), "of another inode, though as large and as old"


def test_what_was_written_just_now_is_read_again(tmp_path: Path) -> None:
    """It may be written twice within one tick of the file system's clock."""
    file = tmp_path / "a"
    for text in ("one", "two"):
        file.write_text(text)
        now = time.time()
        os.utime(file, (now, now))
        assert known_sha256(file) == hashlib.sha256(text.encode()).hexdigest()

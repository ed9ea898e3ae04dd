from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.files.parts import Parts
from itool_pipeline.files.storage_errors import StorageError
from itool_pipeline_tests.store.by_hand import names_in


def test_parts_are_kept(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    parts.write_text("b.txt", "grüße")
    parts.write_json("deep/a.json", {"n": (1, 2)})
    parts.write_bytes("b.txt", b"newer")
    assert parts.path("b.txt").read_bytes() == b"newer"
    assert parts.read_json("deep/a.json") == {"n": [1, 2]}
    assert parts.has("deep/a.json")
    assert not parts.has("c")
    assert names_in(parts.directory) == ["b.txt", "deep"]


def test_seconds_that_others_spent_are_added(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    assert parts.seconds() == 0
    parts.spend("shard_0", 1.5)
    parts.spend("shard_1", 2.0)
    assert parts.seconds() == 3.5


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", ".tmp/x"])
def test_names_that_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="part's name"):
        Parts(tmp_path).path(name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"disk is full: part 'a' .*ITOOL_STORAGE"):
        Parts(tmp_path).write("a", lambda path: Path("/dev/full").write_bytes(b"x"))
    assert not Parts(tmp_path).has("a")

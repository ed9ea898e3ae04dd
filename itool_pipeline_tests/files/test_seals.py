"""What is kept between two runs is used as it was written, or made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.files import durable, seals
from itool_pipeline.files.parts import Parts
from itool_pipeline.files.seals import is_sound, put_aside, remove_sealed, write_sealed
from itool_pipeline_tests.damage import flip_a_byte
from itool_pipeline_tests.store.by_hand import names_in


def fill_folder(folder: Path) -> None:
    for name in ("a", "deep/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"in {name}")


def test_a_damaged_part_is_moved_aside_and_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    parts = Parts(tmp_path / "parts", said.append)
    parts.write_json("deep/a.json", [1, 2])
    parts.write_text("b", "as it was")
    assert parts.has("deep/a.json")
    flip_a_byte(parts.path("deep/a.json"))
    assert not parts.has("deep/a.json")
    assert not parts.path("deep/a.json").exists()
    (line,) = said
    assert str(parts.path("deep/a.json")) in line
    assert "damaged" in line
    parts.write_json("deep/a.json", [1, 2])
    assert parts.has("deep/a.json")
    assert parts.has("b")
    assert len(said) == 1


def test_notes_of_seconds_that_are_damaged_count_nothing(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", lambda line: None)
    parts.spend("a", 1.5)
    parts.spend("b", 2.0)
    flip_a_byte(parts.path("b.seconds"))
    assert parts.seconds() == 1.5


@pytest.mark.parametrize("change", ["a", "deep/b", "gone", "more", "named otherwise"])
def test_a_folder_is_sealed_with_all_that_is_in_it(tmp_path: Path, change: str) -> None:
    folder = write_sealed(tmp_path / "step_1", fill_folder)
    assert is_sound(folder)
    match change:
        case "gone":
            (folder / "a").unlink()
        case "more":
            (folder / "c").write_text("")
        case "named otherwise":
            (folder / "a").rename(folder / "c")
        case name:
            flip_a_byte(folder / name)
    assert not is_sound(folder)
    put_aside(folder, "it is made again", lambda line: None)
    assert names_in(tmp_path) == []
    assert is_sound(write_sealed(folder, fill_folder))


@pytest.mark.parametrize("version", ["this", "an older"])
def test_a_kill_between_the_hash_and_the_content_leaves_what_was_there_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    parts, move = Parts(tmp_path), durable.move_into_place
    if version == "this":
        parts.write_text("note", "old")
    else:
        parts.path("note").write_text("old")

    def killed(source: Path, target: Path) -> None:
        if target.name == "note" and target.parent == tmp_path:
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "move_into_place", killed)
        with pytest.raises(KeyboardInterrupt):
            parts.write_text("note", "new")
    assert len((tmp_path / ".sha256" / "note").read_text().split()) == 2, "the hash is there first"
    assert parts.has("note")
    assert parts.path("note").read_text() == "old"
    parts.write_text("note", "new")
    assert parts.has("note")


def test_a_part_that_is_replaced_while_it_is_looked_at_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, sha256 = Parts(tmp_path), seals._sha256
    parts.write_text("note", "old")

    def slow(path: Path) -> str:
        found = sha256(path)
        with monkeypatch.context() as patch:
            patch.setattr(seals, "_sha256", sha256)
            Parts(tmp_path).write_text("note", "new")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(seals, "_sha256", slow)
        assert parts.has("note")
    assert parts.path("note").read_text() == "new"


def test_a_part_of_an_older_version_is_used_and_one_without_a_whole_hash_is_not(tmp_path: Path) -> None:
    parts = Parts(tmp_path, lambda line: None)
    parts.path("older").write_text("has no hash")
    assert parts.has("older")
    parts.write_text("a", "x")
    flip_a_byte(tmp_path / ".sha256" / "a")
    assert not parts.has("a")


def test_what_is_damaged_while_a_process_looks_again_is_found(tmp_path: Path) -> None:
    parts = Parts(tmp_path, lambda line: None)
    parts.write_text("a", "x" * 100)
    assert parts.has("a")
    flip_a_byte(parts.path("a"))
    assert not parts.has("a")


def test_what_is_removed_leaves_no_hash(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.write_text("a", "x")
    parts.write("step_1", fill_folder)
    for name in ("step_1", "step_1", "a", "a"):
        remove_sealed(parts.path(name))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

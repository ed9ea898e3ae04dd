"""A step is told once, over any kills."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from itool_pipeline.tracking.told import OnceTold

Heard = list[tuple[str, int, Mapping[str, float]]]


class Listener:
    def __init__(self, heard: Heard) -> None:
        self.heard, self.closed = heard, False

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        assert not self.closed
        self.heard.append((kind, step, values))

    def close(self) -> None:
        self.closed = True


def began(file: Path, heard: Heard) -> OnceTold:
    told = OnceTold(file)
    told.writers.append(Listener(heard))
    return told


def test_work_that_goes_on_tells_only_what_was_not_told(tmp_path: Path) -> None:
    heard: Heard = []
    first = began(tmp_path / "parts" / "told", heard)
    first.write("validation", 0, {"loss": 3.0})
    for step in (1, 2, 3):
        first.write("train", step, {"loss": 2.0})
    # A kill: nothing is closed. The work begins again after its checkpoint at step 1.
    second = began(tmp_path / "parts" / "told", heard)
    for step in (2, 3, 4):
        second.write("train", step, {"loss": 2.0})
    second.write("validation", 4, {"loss": 1.0})
    second.close()
    assert [(kind, step) for kind, step, _ in heard] == [
        ("validation", 0),
        *(("train", step) for step in (1, 2, 3, 4)),
        ("validation", 4),
    ]
    assert second.run == first.run
    assert all(writer.closed for writer in second.writers if isinstance(writer, Listener))


def test_a_line_that_a_kill_has_torn_is_forgotten(tmp_path: Path) -> None:
    heard: Heard = []
    file = tmp_path / "told"
    began(file, heard).write("train", 1, {})
    with file.open("ab") as opened:
        opened.write(b'{"kind": "tra')
    again = began(file, heard)
    again.write("train", 1, {})
    again.write("train", 2, {})
    assert [step for _, step, _ in heard] == [1, 2]
    assert began(file, heard).run == again.run
    assert file.read_bytes().count(b"\n") == 3


def test_a_first_line_that_is_torn_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "told"
    file.write_bytes(b'{"run": "2026')
    run = began(file, []).run
    assert run != "2026"
    assert began(file, []).run == run


@pytest.mark.parametrize("place", range(60))
def test_a_file_that_is_damaged_anywhere_is_no_obstacle(tmp_path: Path, place: int) -> None:
    """At worst it is another run, of which all steps are told."""
    file, heard = tmp_path / "told", list[tuple[str, int, Mapping[str, float]]]()
    first = began(file, heard)
    first.write("train", 1, {})
    first.close()
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << place % 8
    file.write_bytes(content)
    again = began(file, heard)
    again.write("train", 100, {})
    again.close()
    assert began(file, heard).run == again.run


def test_work_that_begins_anew_is_another_run(tmp_path: Path) -> None:
    assert OnceTold(tmp_path / "a").run != OnceTold(tmp_path / "b").run

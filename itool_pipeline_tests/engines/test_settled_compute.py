"""What is kept in parts is computed in one dtype, however many processes, machines and days it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines import dtype_finding
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.settled_compute import NOTE, ComputeNote, compute_note, settled_compute
from itool_pipeline.files.parts import Parts
from itool_pipeline_tests.damage import flip_a_byte

AUTO, FP32, BF16 = (ComputeConfig(device="cpu", dtype=dtype) for dtype in ("auto", "float32", "bfloat16"))


class Place:
    """Parts on a machine that can be changed for another one."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts, self.said, self._patch = Parts(root / "parts"), list[str](), monkeypatch
        self.on("One", "bfloat16")

    def on(self, processor: str, dtype: str) -> None:
        """From here on on another machine, where `dtype` is the fastest."""
        capabilities = {"cpu_name": processor}
        self._patch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        self._patch.setattr(torch, "get_num_threads", lambda: 2)
        self._patch.setattr(dtype_finding, "measured_dtype", lambda base, findings, say: dtype)

    def settled(self, compute: ComputeConfig, **over: Any) -> str:
        found = settled_compute(compute, Path("base"), self.parts, findings=None, say=self.said.append, **over)
        assert found == compute.model_copy(update={"dtype": found.dtype})
        return found.dtype


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_what_was_begun_in_one_dtype_goes_on_in_it_on_a_machine_that_is_faster_in_another(place: Place) -> None:
    assert place.settled(AUTO) == "bfloat16"
    assert place.said == []
    place.parts.write_text("shard_0.txt", "made in bf16")
    for _ in range(2):
        place.on("Other", "float32")
        assert place.settled(AUTO) == "bfloat16"
    assert place.said == ["begun in bfloat16 on One, 2 threads: going on in bfloat16 on Other, 2 threads"]
    place.on("One", "float32")
    assert place.settled(AUTO) == "bfloat16"
    assert len(place.said) == 1
    assert compute_note(place.parts) == ComputeNote(dtype="bfloat16", devices=["One, 2 threads", "Other, 2 threads"])


def test_a_dtype_that_is_asked_for_is_taken_and_noted(place: Place) -> None:
    assert place.settled(FP32) == "float32"
    assert compute_note(place.parts) == ComputeNote(dtype="float32", devices=["One, 2 threads"])


def test_processes_that_compute_together_are_counted(place: Place) -> None:
    assert place.settled(AUTO, processes=0) == "bfloat16"
    assert compute_note(place.parts) == ComputeNote(dtype="bfloat16", devices=[]), "they note themselves"
    for processes in (2, 0, 2, 1):
        place.settled(AUTO, processes=processes)
    assert compute_note(place.parts) == ComputeNote(dtype="bfloat16", devices=["2 x One, 2 threads", "One, 2 threads"])
    assert place.said == ["begun in bfloat16 on 2 x One, 2 threads: going on in bfloat16 on One, 2 threads"]


def test_parts_of_another_dtype_than_the_one_asked_for_are_refused_and_left_as_they_are(place: Place) -> None:
    place.settled(AUTO)
    place.parts.write_text("shard_0.txt", "made in bf16")
    place.on("Other", "float32")
    with pytest.raises(ModelError, match=r"parts that were made in bfloat16, and compute\.dtype is float32: say bf"):
        place.settled(FP32)
    assert place.settled(BF16) == "bfloat16"
    assert place.parts.path("shard_0.txt").read_text() == "made in bf16"


def test_parts_that_do_not_say_their_dtype_are_refused_where_it_is_auto(place: Place) -> None:
    place.parts.write_text("step_00000001", "of an older version")
    with pytest.raises(ModelError, match="parts that do not say in which dtype they were made"):
        place.settled(AUTO)
    assert compute_note(place.parts) is None
    assert place.settled(BF16) == "bfloat16"
    assert place.settled(AUTO) == "bfloat16"


def test_only_what_has_the_name_of_a_part_is_one(place: Place) -> None:
    place.parts.write_text("job.json", "written before anything is computed")
    assert place.settled(AUTO, made="step_*") == "bfloat16"


@pytest.mark.parametrize("damage", [lambda note: note.write_text('{"dtype": "bfl'), flip_a_byte])
def test_a_damaged_note_is_refused(place: Place, damage: Callable[[Path], object]) -> None:
    place.settled(AUTO)
    damage(place.parts.path(NOTE))
    with pytest.raises(ModelError, match=r"compute\.json is damaged: remove the folder"):
        place.settled(AUTO)

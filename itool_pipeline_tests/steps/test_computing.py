"""An artifact is computed in one dtype, says in which and on what, and is the same asset whatever it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines import dtype_finding
from itool_pipeline.steps import policy, replay_buffer, trees
from itool_pipeline.steps.computing import settled
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.without_model import HashedPolicy, Trainings, install, prepared, searched, warm_up


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    return install(monkeypatch)


@pytest.fixture
def searched_in(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dtype of every engine that was asked for."""
    found: list[str] = []

    def engine(ws: Workspace, checkpoint: str) -> HashedPolicy:
        found.append(ws.experiment.compute.dtype)
        return HashedPolicy(3)

    for module in (trees, replay_buffer):
        monkeypatch.setattr(module, "search_engine", engine)
    return found


def on_machine(monkeypatch: pytest.MonkeyPatch, name: str, dtype: str) -> None:
    monkeypatch.setattr(dtype_finding, "device_text", lambda device: name)
    monkeypatch.setattr(dtype_finding, "measured_dtype", lambda base, findings, say: dtype)


def test_shards_of_one_search_are_all_in_the_dtype_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched_in: list[str]
) -> None:
    ws = prepared(tmp_path, search={"shard_size": 5})
    warm_up(ws)
    on_machine(monkeypatch, "One", "bfloat16")
    replay_buffer.replay_buffer(ws, 1)
    first, *others = trees.plan_shards(ws, 1)
    trees.search_shards(ws, 1, [first])
    on_machine(monkeypatch, "Other", "float32")
    for index in others:
        trees.search_shards(ws, 1, [index])
    metadata = trees.gather(ws, 1).artifact.manifest.metadata
    assert searched_in == ["bfloat16"] * (1 + 1 + len(others))
    assert len(others) >= 2
    assert (metadata["dtype"], metadata["device"]) == ("bfloat16", "One and Other")


def test_every_artifact_that_a_model_made_says_its_dtype_and_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: Trainings
) -> None:
    on_machine(monkeypatch, "One", "bfloat16")
    ws = prepared(tmp_path)
    warm_up(ws)
    searched(ws)
    on_machine(monkeypatch, "Other", "float32")
    policy.policy(ws, 1)
    made = ("warmup/easy", "warmup/hard", "iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/policy")
    told = {asset: ws.input(asset).manifest.metadata for asset in made}
    trained = [asset for asset in told if "dtype" in told[asset]]
    assert {(told[asset]["dtype"], told[asset]["device"]) for asset in trained[:-1]} == {("bfloat16", "One")}
    assert (told["iteration_1/policy"]["dtype"], told["iteration_1/policy"]["device"]) == ("float32", "Other")
    assert {*made[2:], *(asset for asset in made[:2] if "unchanged" not in told[asset])} == set(trained)
    assert {one.job.compute.dtype for one in trainings.asked[:-1]} == {"bfloat16"}
    assert trainings.asked[-1].job.compute.dtype == "float32"
    assert "dtype" not in ws.input("iteration_1/pairs").manifest.metadata


def test_fingerprints_know_the_word_that_stands_in_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: Trainings
) -> None:
    ws = prepared(tmp_path)
    before = {asset: planned.fingerprint for asset, planned in plan(ws.experiment).items()}
    for name, dtype in (("One", "bfloat16"), ("Other", "float32")):
        on_machine(monkeypatch, name, dtype)
        with ws.artifacts.parts("warmup/easy", ws.planned["warmup/easy"].fingerprint) as parts:
            own = settled(ws, parts)
        assert own.experiment.compute == ws.experiment.compute.model_copy(update={"dtype": "bfloat16"})
        assert {asset: planned.fingerprint for asset, planned in own.planned.items()} == before
        assert ws.experiment.compute.dtype == "auto"
    named: dict[str, Any] = {"compute": ComputeConfig(dtype="bfloat16")}
    other = plan(ws.experiment.model_copy(update=named))
    assert other["warmup/easy"].fingerprint != before["warmup/easy"]

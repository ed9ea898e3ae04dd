"""Making, reusing and finding artifacts, and the rows that say who has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.experiment_files import ConfigError
from itool_pipeline.steps import trees
from itool_pipeline.steps.artifact_files import BUFFER_FILE
from itool_pipeline.steps.plan import plan
from itool_pipeline.steps.records import LeftToTheRun
from itool_pipeline.steps.workspace import MissingInput, Produced, UndeclaredInput, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import BUFFER
from itool_pipeline_tests.steps.by_hand import database_of, experiment, workspace
from itool_pipeline_tests.store.by_hand import ask


def write(directory: Path) -> None:
    (directory / "weights.txt").write_text("1 2 3")


def put(ws: Workspace, asset: str, fill: Callable[[Path], Any] = write) -> Produced:
    """Make or reuse an artifact with the files that `fill` writes."""

    def make(step: Step) -> dict[str, Any]:
        fill(step.work)
        return {}

    return ws.produce(asset, make)


def buffer_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "example_id": f"e{i}",
            "perplexity": 1.0,
            "response_tokens": 2,
            "right_share": None,
            "mistakes": None,
            "mistake": None,
            "rank": i,
            "selected": True,
        }
        for i in range(count)
    ]


def test_an_input_that_is_not_there_is_named_with_the_way_to_make_it(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    with pytest.raises(MissingInput) as error:
        ws.input("warmup/easy")
    assert str(error.value) == (
        f"warmup/easy of experiment hand (fingerprint {ws.planned['warmup/easy'].fingerprint}) is not there; "
        "materialize it first, or run it all: python -m itool_pipeline run hand"
    )


def test_an_input_is_found_by_the_fingerprint_of_the_plan(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    made = put(ws, "base_model")
    found = ws.input("base_model")
    assert found.path == made.artifact.path == tmp_path / "artifacts" / "base_model" / found.fingerprint
    assert found.fingerprint == plan(experiment())["base_model"].fingerprint
    assert found.file("weights.txt").read_text() == "1 2 3"
    other = workspace(tmp_path, model={"type": "hub", "name": "some/model"})
    with pytest.raises(MissingInput):
        other.input("base_model")


def test_what_is_there_is_reused(tmp_path: Path) -> None:
    said: list[str] = []
    first = put(workspace(tmp_path, said), "base_model")
    again = put(workspace(tmp_path, said, run_id="run-2", name="other"), "base_model", lambda _: pytest.fail("made"))
    assert (first.reused, again.reused) == (False, True)
    assert again.artifact.manifest == first.artifact.manifest
    key = first.artifact.fingerprint
    assert said == [f"base_model {key}: made in 0 s", f"base_model {key}: reused"]


def test_force_makes_it_again(tmp_path: Path) -> None:
    ws = workspace(tmp_path)
    put(ws, "base_model")
    forced = put(replace(ws, force=True, run_id="run-2"), "base_model", lambda d: (d / "other.txt").write_text("x"))
    assert not forced.reused
    assert list(forced.artifact.manifest.files) == ["other.txt"]
    assert forced.artifact.manifest.run_id == "run-2"
    assert not (forced.artifact.path / "weights.txt").exists()


def test_a_step_may_decide_on_force_itself(tmp_path: Path) -> None:
    ws = replace(workspace(tmp_path), force=True)
    put(ws, "base_model")
    kept = ws.produce("base_model", lambda _: pytest.fail("made"), force=False)
    assert kept.reused


def test_the_manifest_says_what_it_was_made_from(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    put(ws, "base_model")
    manifest = put(ws, "examples").artifact.manifest
    assert manifest.inputs == {"base_model": ws.planned["base_model"].fingerprint}
    assert (manifest.run_id, manifest.asset) == ("run-1", "examples")
    assert manifest.config["seed"] == 0


def test_rows_and_materializations(tmp_path: Path) -> None:
    def make(step: Step) -> dict[str, Any]:
        write_table_file(step.work / BUFFER_FILE, BUFFER, buffer_rows(3))
        return {"examples": 3}

    asset = "iteration_1/replay_buffer"
    ws = workspace(tmp_path, run_id="run-1", description="words")
    ws.produce(asset, make)
    workspace(tmp_path, run_id="run-2", name="other").produce(asset, make)
    workspace(tmp_path, run_id="run-3").produce(asset, make)
    assert ask(database_of(ws), "SELECT count(*), count(DISTINCT artifact) FROM buffer") == [(3, 1)]
    assert ask(
        database_of(ws), "SELECT experiment, run_id, made_by_run, reused FROM materializations ORDER BY ALL"
    ) == [
        ("hand", "run-3", "run-1", True),
        ("other", "run-2", "run-1", True),
    ]
    names = ask(database_of(ws), "SELECT experiment, description FROM experiments ORDER BY experiment")
    assert names == [("hand", ""), ("other", "")]
    lineage = ask(database_of(ws), "SELECT input_asset FROM lineage ORDER BY input_asset")
    assert lineage == [("base_model",), ("examples",), ("splits",), ("warmup/hard",)]


def test_a_step_that_fails_leaves_no_artifact_and_no_rows(tmp_path: Path) -> None:
    ws = workspace(tmp_path)

    def make(step: Step) -> dict[str, Any]:
        step.parts.write_text("half.txt", "kept for the next run")
        raise ValueError("no such row")

    with pytest.raises(ValueError, match="no such row"):
        ws.produce("base_model", make)
    with pytest.raises(MissingInput):
        ws.input("base_model")
    assert ask(database_of(ws), "SELECT count(*) FROM materializations") == [(0,)]
    put(ws, "base_model", lambda work: (work / "x").write_text((work / "parts" / "half.txt").read_text()))
    assert ws.input("base_model").file("x").read_text() == "kept for the next run"


def test_assets_of_fewer_iterations(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=1)
    assert ws.has("iteration_1/policy")
    assert not ws.has("iteration_2/policy")
    assert not ws.has("bfcl/iteration_2")


def test_progress_says_its_unit(tmp_path: Path) -> None:
    said: list[str] = []
    workspace(tmp_path, said).progress("cases answered")(2, 2)
    assert said == ["2 of 2 cases answered in 0 s"]


def test_a_workspace_of_an_experiment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments = tmp_path / "experiments"
    experiments.mkdir()
    (experiments / "mine.yaml").write_text("model: {type: smollm2_wheel}\ndata: {type: bfcl_half}\nseed: 4\n")
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(experiments))
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))
    ws = Workspace.of("mine", say=lambda _: None, run_id="r", force=True)
    assert (ws.experiment.seed, ws.run_id, ws.force) == (4, "r", True)
    assert ws.paths.root == (tmp_path / "storage").resolve()
    assert ws.artifacts.root == ws.paths.root / "artifacts"
    assert not ws.paths.root.exists()
    with pytest.raises(ConfigError, match=r"yours\.yaml: no such experiment"):
        Workspace.of("yours", say=lambda _: None)


def test_a_step_that_reads_what_it_did_not_declare_stops(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    put(ws, "base_model")
    put(ws, "examples")

    def make(step: Step) -> dict[str, Any]:
        ws.input("examples")  # declared
        ws.input("base_model")
        return {}

    with pytest.raises(UndeclaredInput) as error:
        ws.produce("splits", make)
    assert str(error.value) == (
        "splits reads base_model, which it does not declare; it declares ['examples']. "
        "Add it in steps.asset_graph.inputs_of, so that lineage and fingerprint know of it."
    )
    assert ws.input("base_model")  # nobody reads any more
    assert ws.artifacts.find("splits", ws.planned["splits"].fingerprint) is None


def test_a_step_that_the_curriculum_passes_by_may_not_read_the_data(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun(), warmup={"curriculum": "none"})
    put(ws, "splits")
    with ws.producing("warmup/easy"), pytest.raises(UndeclaredInput, match="warmup/easy reads splits"):
        ws.input("splits")


def test_a_check_reads_its_asset_and_what_it_is_made_from_and_what_it_declares(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    for asset in ("base_model", "examples", "splits"):
        put(ws, asset)
    with ws.checking("no_leak", "splits"):
        ws.input("splits")
        ws.input("examples")
        with pytest.raises(UndeclaredInput, match=r"the check no_leak of splits reads base_model.*also_reads in defs"):
            ws.input("base_model")
    with ws.checking("no_leak", "splits", also_reads=["base_model"]):
        ws.input("base_model")


def test_of_readers_inside_readers_the_innermost_decides(tmp_path: Path) -> None:
    ws = workspace(tmp_path, records=LeftToTheRun())
    for asset in ("base_model", "examples", "splits"):
        put(ws, asset)
    with ws.checking("no_leak", "splits"):
        with ws.producing("examples"):
            ws.input("base_model")
            with pytest.raises(UndeclaredInput, match="examples reads splits"):
                ws.input("splits")
        ws.input("splits")
        with pytest.raises(UndeclaredInput, match="the check no_leak of splits reads base_model"):
            ws.input("base_model")


def test_the_shards_of_a_search_read_under_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = workspace(tmp_path, iterations=1)

    def read_pairs(ws: Workspace, k: int) -> Any:
        ws.input("iteration_1/pairs")

    monkeypatch.setattr(trees, "shards", read_pairs)
    with pytest.raises(UndeclaredInput, match="iteration_1/trees reads iteration_1/pairs"):
        trees.plan_shards(ws, 1)
    with pytest.raises(UndeclaredInput, match="iteration_1/trees reads iteration_1/pairs"):
        trees.search_shards(ws, 1, [0])

"""Shipped ablations through the real job, from data to report, on a policy that is a hash."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from itool_pipeline.definitions import defs
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.steps.asset_graph import ON_REQUEST, policy_before
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import database_of
from itool_pipeline_tests.steps.without_model import Trainings, install, install_data
from itool_pipeline_tests.store.by_hand import ask

pytestmark = pytest.mark.slow


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))
    install_data(monkeypatch)
    return install(monkeypatch)


def run(name: str) -> Workspace:
    """Run the job `itool` on the partition; the workspace that sees what it made."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("itool").execute_in_process(
            partition_key=name, instance=instance, raise_on_error=True
        )
        assert result.success
        checks = result.get_asset_check_evaluations()
    ws = Workspace.of(name, say=lambda _: None)
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    versions = {
        event.asset_key.to_user_string(): (event.step_materialization_data.materialization.tags or {})[DATA_VERSION_TAG]
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    wanted_versions = {asset: planned.fingerprint for asset, planned in ws.planned.items() if asset not in ON_REQUEST}
    assert versions == wanted_versions
    assert made == set(wanted_versions), "all that the experiment has, and nothing of the iterations that it lacks"
    # what a hash prefers need not be true
    assert all(check.passed for check in checks)
    wanted = {key.to_user_string() for key in {check.asset_key for check in checks}}
    own = [f"iteration_{k}/{step}" for k in range(1, ws.experiment.iterations + 1) for step in ("pairs", "policy")]
    assert wanted == {
        "examples",
        "splits",
        "bfcl_cases",
        *own,
        *(f"bfcl/{c}" for c in ws.experiment.scored_checkpoints()),
    }
    return ws


def page(ws: Workspace) -> str:
    return ws.input("report").file("report.md").read_text()


def board(ws: Workspace) -> list[str]:
    sql = "SELECT checkpoint FROM leaderboard WHERE experiment = ? ORDER BY sequence"
    return [row[0] for row in ask(database_of(ws), sql.replace("?", f"'{ws.experiment.name}'"))]


@pytest.mark.parametrize("name", ["without_iterations", "sft_entire"])
def test_no_iterations(trainings: Trainings, name: str) -> None:
    ws = run(name)
    assert board(ws) == ["base", "warmup"]
    assert "## Search\n\n*none*" in page(ws)
    assert load_experiment(name).description in page(ws)
    (asked,) = trainings.asked  # all examples are easy
    assert bool(asked.validation) == (name == "without_iterations")


@pytest.mark.parametrize("name", ["without_mcts", "without_warmup"])
def test_ablations_from_data_to_report(trainings: Trainings, name: str) -> None:
    ws = run(name)
    iterations = ws.experiment.iterations
    assert board(ws) == ["base", "warmup", *(f"iteration_{k}" for k in range(1, iterations + 1))]
    rows = [line for line in page(ws).split("## Search")[1].splitlines() if line.startswith("| ")][2:]
    assert len(rows) == iterations
    chosen_by = "probability" if name == "without_mcts" else "Q"
    assert all(f"| {chosen_by} |" in row for row in rows)
    policies = [policy_before(k) for k in range(1, iterations + 1)]
    warmup = [] if name == "without_warmup" else ["base_model"]  # all examples are easy
    assert [asked.start for asked in trainings.asked] == [*warmup, *policies]


def test_a_second_experiment_reuses_what_it_shares(trainings: Trainings) -> None:
    run("without_mcts")
    before = len(trainings.asked)
    ws = run("without_iterations")
    assert len(trainings.asked) == before
    reused = ask(
        database_of(ws), "SELECT asset FROM materializations WHERE experiment = 'without_iterations' AND reused"
    )
    assert {row[0] for row in reused} == set(ws.planned) - {"champion", "report", *ON_REQUEST}

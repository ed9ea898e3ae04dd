"""Two experiments as one backfill, at once: what they share is made by one of the runs, and no row stands twice."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus

from itool_pipeline.store.database import Database
from itool_pipeline.store.tables import TABLES
from itool_pipeline_tests.defs.served import running, ui
from itool_pipeline_tests.defs.tiny_runs import TinyHome
from itool_pipeline_tests.drills import EXPERIMENTS
from itool_pipeline_tests.store.by_hand import ask

pytestmark = pytest.mark.slow

MODULE = "itool_pipeline.definitions"
SEARCHES = {"long": 3, "short": 2}
"""Experiment → rounds of each of its searches, which is all that differs."""
OWN = {*(f"iteration_1/{step}" for step in ("trees", "pairs", "policy")), "bfcl/iteration_1", "champion", "report"}
SHARED = {
    *("base_model", "examples", "splits", "bfcl_cases", "bfcl/base", "bfcl/warmup", "iteration_1/replay_buffer"),
    *(f"warmup/{stage}" for stage in ("easy", "medium", "hard")),
}

LAUNCH = """mutation ($what: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $what) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
"""What the UI sends when partitions have been chosen."""


def make_home(root: Path, model: Path, downloads: Path) -> TinyHome:
    """A home in which two runs go on at once, and two ops that use the model."""
    experiments = root / "mine"
    experiments.mkdir()
    tiny = yaml.safe_load((EXPERIMENTS / "tiny.yaml").read_text())
    for name, rounds in SEARCHES.items():
        own = {"model": {"type": "hub", "name": str(model)}, "search": {**tiny["search"], "iterations": rounds}}
        (experiments / f"{name}.yaml").write_text(yaml.safe_dump({**tiny, **own}))
    home = TinyHome(root, {"ITOOL_EXPERIMENTS": str(experiments), "OMP_NUM_THREADS": "1"})
    (root / "downloads").symlink_to(downloads.resolve())
    settings = yaml.safe_load((root / "dagster.yaml").read_text())
    settings["concurrency"]["pools"]["default_limit"] = settings["concurrency"]["runs"]["max_concurrent_runs"] = 2
    (root / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return home


def by_command(home: TinyHome) -> None:
    names = ("--from", min(SEARCHES), "--to", max(SEARCHES))
    home.run(("dagster", "job", "backfill", "-m", MODULE, "-j", "itool", "--noprompt", *names))


def by_the_ui(home: TinyHome, what: dict[str, Any]) -> None:
    with ui(home, MODULE) as served:
        answer = served.ask(LAUNCH, what={**what, "partitionNames": list(SEARCHES)})
    assert answer["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", answer


def by_the_page_of_the_job(home: TinyHome) -> None:
    repository = {"repositoryLocationName": MODULE, "repositoryName": "__repository__"}
    by_the_ui(home, {"selector": {"partitionSetName": "itool_partition_set", "repositorySelector": repository}})


def by_the_graph_of_assets(home: TinyHome) -> None:
    """All that the experiments have, as a person would select it in the graph."""
    by_the_ui(home, {"assetSelection": [{"path": asset.split("/")} for asset in sorted(SHARED | OWN)]})


DOORS = {"command": by_command, "job": by_the_page_of_the_job, "assets": by_the_graph_of_assets}


@dataclass(frozen=True)
class Done:
    """What a backfill left."""

    home: TinyHome
    status: BulkActionStatus
    runs: list[dg.RunRecord]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        return ask(Database(self.home.root / "itool.duckdb"), sql)


@pytest.fixture(scope="module", params=DOORS)
def done(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model_dir: Path,
    downloads_dir: Path,
    bfcl_dir: Path,
) -> Done:
    """A backfill by each door, which the real daemon sees to its end."""
    home = make_home(tmp_path_factory.mktemp(request.param), tiny_model_dir, downloads_dir)
    DOORS[request.param](home)
    with home.instance() as instance:
        (asked,) = instance.get_backfills()

        def status() -> BulkActionStatus:
            found = instance.get_backfill(asked.backfill_id)
            assert found is not None
            return found.status

        with running(home, "dagster._daemon", "run", "-m", MODULE):
            home.wait_until(lambda: status() != BulkActionStatus.REQUESTED, 1800)
            home.wait_until(lambda: all(run.dagster_run.is_finished for run in instance.get_run_records()), 1800)
        return Done(home, status(), list(instance.get_run_records()))


def test_both_succeed(done: Done) -> None:
    assert done.status in (BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS), done.home.output()
    statuses = {run.dagster_run.tags["dagster/partition"]: run.dagster_run.status for run in done.runs}
    assert statuses == dict.fromkeys(SEARCHES, dg.DagsterRunStatus.SUCCESS), done.home.output()


def test_they_ran_at_once(done: Done) -> None:
    one, other = done.runs
    assert one.start_time is not None
    assert one.end_time is not None
    assert other.start_time is not None
    assert other.end_time is not None
    assert max(one.start_time, other.start_time) < min(one.end_time, other.end_time)


def test_what_they_share_is_made_by_one_run(done: Done) -> None:
    rows = defaultdict(list)
    for asset, *row in done.ask("SELECT asset, artifact, run_id, made_by_run, reused FROM materializations"):
        rows[asset].append(row)
    assert rows.keys() == SHARED | OWN
    runs = {run.dagster_run.run_id for run in done.runs}
    for asset, both in rows.items():
        artifacts, by, makers, reused = (list(column) for column in zip(*both, strict=True))
        assert set(by) == runs, asset
        assert len(set(artifacts)) == len(set(makers)) == (1 if asset in SHARED else 2), asset
        assert sorted(reused) == [False, asset in SHARED], asset
        assert all((run == maker) != again for run, maker, again in zip(by, makers, reused, strict=True)), asset


def test_no_row_stands_twice(done: Done) -> None:
    for table in TABLES.values():
        (counted,) = done.ask(
            f"SELECT (SELECT count(*) FROM {table.name}), (SELECT count(*) FROM (SELECT DISTINCT * FROM {table.name}))"
        )
        assert counted[0] == counted[1], table.name
    assert done.ask("SELECT count(*) FROM examples")[0][0] > 0

"""The process of a run records what steps on workers have made, by the events of their materializations."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import duckdb
import pytest
import yaml

from itool_pipeline.defs import automation, comparison
from itool_pipeline.defs.executors import chosen_executor
from itool_pipeline.defs.logs import console
from itool_pipeline.defs.metadata import shown
from itool_pipeline.defs.records import WORKERS, RunRecords, own_records
from itool_pipeline.steps import prepare
from itool_pipeline.steps.records import LeftToTheRun
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.database import Database
from itool_pipeline_tests.steps.by_hand import example, put, write_train
from itool_pipeline_tests.store.by_hand import ask

NAME = "mine"
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """As a step on a worker has it, with its examples."""
    write_experiment(tmp_path)
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))
    made = Workspace.of(NAME, say=lambda _: None, records=LeftToTheRun())
    put(made, "examples", lambda out: write_train(out, map(example, "abcd")))
    return made


def write_experiment(folder: Path, **over: Any) -> None:
    content = {"model": {"type": "smollm2_wheel"}, "data": {"type": "bfcl_half"}, **over}
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(content))


def told(produced: Produced, *, partition: str | None = NAME) -> dg.DagsterEvent:
    """What the run hears of a step that has made this."""
    asset, fingerprint = produced.artifact.asset.split("/"), shown(produced)
    made = dg.AssetMaterialization(asset, metadata=fingerprint, partition=partition)
    data = SimpleNamespace(materialization=made)
    event = SimpleNamespace(is_step_materialization=True, step_materialization_data=data)
    return cast(dg.DagsterEvent, event)


def other() -> dg.DagsterEvent:
    return cast(dg.DagsterEvent, SimpleNamespace(is_step_materialization=False))


def records_of(run: Any = None, instance: Any = None) -> RunRecords:
    return RunRecords(run or SimpleNamespace(run_id="run-1", parent_run_id=None), instance, lambda _: None)


def recorded(ws: Workspace) -> list[tuple[Any, ...]]:
    if not ws.paths.database.exists():
        return []
    return ask(Database(ws.paths.database), "SELECT experiment, asset, run_id, reused FROM materializations ORDER BY 2")


def handed_on(*events: dg.DagsterEvent, heard: list[BaseException]) -> Generator[dg.DagsterEvent, None, None]:
    """In place of an executor, which ends the steps under way when it hears of an error."""
    for event in events:
        try:
            yield event
        except Exception as error:
            heard.append(error)
            yield other()
            raise


def test_an_event_is_handed_on_when_what_it_tells_of_is_recorded(ws: Workspace) -> None:
    """So whatever begins after it finds the rows."""
    splits = prepare.splits(ws)
    assert recorded(ws) == []
    events = records_of().of_steps(handed_on(other(), told(splits), other(), heard=[]))
    next(events)
    assert recorded(ws) == []
    next(events)
    assert recorded(ws) == [(NAME, "splits", "run-1", False)]
    assert ask(Database(ws.paths.database), "SELECT count(*) FROM splits") == [(4,)]
    assert len(list(events)) == 1


def test_what_is_told_twice_is_recorded_once_and_reuse_is_told(ws: Workspace) -> None:
    first, again = prepare.splits(ws), prepare.splits(ws)
    list(records_of().of_steps(handed_on(told(first), told(again), heard=[])))
    assert recorded(ws) == [(NAME, "splits", "run-1", True)]
    assert ask(Database(ws.paths.database), "SELECT count(*) FROM splits") == [(4,)]


def test_what_is_no_artifact_of_an_experiment_is_passed_by(ws: Workspace) -> None:
    page = dg.AssetMaterialization("comparison", metadata={"page": "x.html"}, partition=NAME)
    data = SimpleNamespace(materialization=page)
    comparison = SimpleNamespace(is_step_materialization=True, step_materialization_data=data)
    events = [cast(dg.DagsterEvent, comparison), told(prepare.splits(ws), partition=None)]
    assert list(records_of().of_steps(handed_on(*events, heard=[]))) == events
    assert not ws.paths.database.exists()


def test_what_cannot_be_recorded_ends_the_run_in_words_and_the_executor_hears_it(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits, heard = prepare.splits(ws), list[BaseException]()
    with Database(ws.paths.database).transaction():
        pass  # it is there before somebody else opens it

    def refused(*_: Any, **__: Any) -> Any:
        raise duckdb.IOException("Could not set lock on file: Conflicting lock is held in /bin/duckdb (PID 77)")

    monkeypatch.setattr("duckdb.connect", refused)
    monkeypatch.setitem(cast(Any, Database.__init__).__kwdefaults__, "wait_seconds", 0.1)
    passed = list[dg.DagsterEvent]()
    told_in = r"is still open in process 77 \(/bin/duckdb\) after .*Close it there"
    with pytest.raises(dg.Failure, match=told_in) as error:
        passed.extend(records_of().of_steps(handed_on(told(splits), other(), heard=heard)))
    assert heard == [error.value], "or the steps under way would go on without their run"
    assert len(passed) == 2, "the event itself, and what the executor says to its end"


def test_an_artifact_that_the_run_does_not_see_is_said_in_words(ws: Workspace) -> None:
    splits = prepare.splits(ws)
    made = told(splits)
    splits.artifact.file("splits.parquet").unlink()
    with pytest.raises(dg.Failure, match=r"splits .* is not whole in .*see that ITOOL_STORAGE is the same folder"):
        list(records_of().of_steps(handed_on(made, heard=[])))


def gone_on_from(*runs: tuple[str, str | None, list[dg.DagsterEvent]]) -> Any:
    """An instance that knows these runs: id, the run that it goes on from, and the events of its log."""

    def logs(run_id: str, of_type: dg.DagsterEventType) -> list[Any]:
        assert of_type == MATERIALIZED
        (found,) = (events for name, _, events in runs if name == run_id)
        return [SimpleNamespace(get_dagster_event=lambda event=event: event) for event in found]

    known = {name: SimpleNamespace(run_id=name, parent_run_id=before) for name, before, _ in runs}
    return SimpleNamespace(all_logs=logs, get_run_by_id=known.get)


def test_a_run_that_goes_on_from_a_failure_records_what_the_failed_one_did_not(ws: Workspace) -> None:
    splits = prepare.splits(ws)
    instance = gone_on_from(("first", None, [told(splits)]), ("second", "first", []))
    run = SimpleNamespace(run_id="third", parent_run_id="second")
    records_of(run, instance).of_the_run_before()
    assert recorded(ws) == [(NAME, "splits", "third", False)]
    run.run_id = "fourth"
    records_of(run, instance).of_the_run_before()
    assert recorded(ws) == [(NAME, "splits", "third", False)], "what is recorded is not loaded again"


def test_what_the_experiment_asks_for_no_more_is_not_made_up_for(ws: Workspace, tmp_path: Path) -> None:
    splits = prepare.splits(ws)
    write_experiment(tmp_path, seed=5)
    run = SimpleNamespace(run_id="second", parent_run_id="first")
    records_of(run, gone_on_from(("first", None, [told(splits)]))).of_the_run_before()
    assert recorded(ws) == []


@pytest.mark.parametrize("name", ["in_process", *sorted(WORKERS)])
def test_steps_on_workers_leave_their_records_to_the_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("ray", "k8s"):
        pytest.importorskip(f"dagster_{name}")
    monkeypatch.setenv("ITOOL_EXECUTOR", name)

    @dg.op
    def nothing() -> None: ...

    @dg.job(executor_def=chosen_executor())
    def job() -> None:
        nothing()

    left = None if name == "in_process" else LeftToTheRun()
    assert own_records(job) == left
    assert own_records(dg.JobDefinition(graph_def=job.graph, executor_def=dg.in_process_executor)) is None


def test_the_comparison_reads_the_database_in_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its job, whatever computes the steps of others; by itself, on a worker, it is refused."""
    monkeypatch.setenv("ITOOL_EXECUTOR", "multiprocess")
    definitions = dg.Definitions(
        assets=[comparison.comparison],
        jobs=[automation.compare],
        executor=chosen_executor(),
        loggers={"console": console},
    )
    assert definitions.resolve_job_def("compare").executor_def.name == "in_process"
    by_itself = definitions.resolve_implicit_global_asset_job_def()
    step: Any = comparison.comparison.op.compute_fn
    with pytest.raises(dg.Failure, match=r"comparison reads the database, .* Start the job `compare`"):
        step.decorated_fn(SimpleNamespace(job_def=by_itself), comparison.Entrants(entrants=["a", "b"]))

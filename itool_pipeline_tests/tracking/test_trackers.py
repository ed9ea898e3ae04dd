"""What each tracker is told: by modules that note their calls, and by the real ones where they are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter

from itool_pipeline.config import TrackingConfig
from itool_pipeline.tracking import trackers
from itool_pipeline.tracking.trackers import TrackedWork, TrackingError, make_tracker, require_tracker

WORK = TrackedWork("demo", "warmup/easy", "20261127-101500-a1b2c3", {"seed": 7})
NAME = "demo-warmup-easy-20261127-101500-a1b2c3"
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")

Calls = list[tuple[Any, ...]]


def config(**content: Any) -> TrackingConfig:
    return TypeAdapter(TrackingConfig).validate_python(content)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())


def put(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def told(settings: TrackingConfig, folder: Path) -> None:
    writer = make_tracker(settings, WORK, folder)
    assert writer is not None
    writer.write("validation", 0, {"loss": 3.0})
    writer.write("train", 1, {"loss": 2.0, "learning_rate": 1e-4})
    writer.close()


def test_without_a_tracker_nothing_is_made(tmp_path: Path) -> None:
    require_tracker(config(type="none"))
    assert make_tracker(config(type="none"), WORK, tmp_path) is None


@pytest.mark.parametrize("name", TRACKERS)
def test_a_package_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    for look in (lambda: require_tracker(config(type=name)), lambda: make_tracker(config(type=name), WORK, tmp_path)):
        with pytest.raises(TrackingError, match=rf"tracking.type is {name}, .* -e '\.\[{name}\]', or set"):
            look()


def test_nothing_of_a_tracker_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, itool_pipeline.definitions; print({*sys.modules} & {'tensorboard','trackio','wandb','mlflow'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_trackio_is_told_by_steps(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []

    def init(**arguments: Any) -> Any:
        calls.append(("init", arguments["project"], arguments["name"], arguments["resume"]))
        log = lambda values, step: calls.append(("log", values, step))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: calls.append(("finish",)))

    put(monkeypatch, "trackio", init=init)
    told(config(type="trackio", project="ours"), tmp_path)
    assert calls == [
        ("init", "ours", NAME, "allow"),
        ("log", {"validation/loss": 3.0}, 0),
        ("log", {"train/loss": 2.0, "train/learning_rate": 1e-4}, 1),
        ("finish",),
    ]


def test_wandb_has_a_step_for_each_kind(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []

    def init(**arguments: Any) -> Any:
        calls.append(("init", arguments["mode"], arguments["id"], arguments["resume"], arguments["config"]))
        assert Path(arguments["dir"]).is_dir()
        return SimpleNamespace(
            define_metric=lambda name, step_metric=None: calls.append(("define", name, step_metric)),
            log=lambda values: calls.append(("log", values)),
            finish=lambda: calls.append(("finish",)),
        )

    put(monkeypatch, "wandb", init=init)
    told(config(type="wandb", mode="offline"), tmp_path)
    assert calls[0] == ("init", "offline", NAME, "allow", {"seed": 7})
    assert ("define", "train/*", "train/step") in calls
    assert calls[-3:] == [
        ("log", {"validation/step": 0, "validation/loss": 3.0}),
        ("log", {"train/step": 1, "train/loss": 2.0, "train/learning_rate": 1e-4}),
        ("finish",),
    ]


class FakeMlflow:
    """One client's server."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.runs: list[Any] = []

    def client(self, tracking_uri: str) -> Any:
        self.calls.append(("client", tracking_uri))
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return None

    def create_experiment(self, name: str) -> str:
        return "7"

    def search_runs(self, experiments: list[str], filter_string: str, max_results: int) -> list[Any]:
        assert filter_string == f"tags.itool_run = '{NAME}'"
        return self.runs

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
        assert tags["itool_run"] == run_name == NAME
        self.runs.append(SimpleNamespace(info=SimpleNamespace(run_id="run-1")))
        return self.runs[0]

    def update_run(self, run: str, status: str) -> None:
        self.calls.append(("again", run, status))

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        self.calls += [("metric", run, name, value, step) for name, value, _, step in metrics]

    def set_terminated(self, run: str) -> None:
        self.calls.append(("end", run))


def test_mlflow_finds_its_run_again(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeMlflow()
    put(monkeypatch, "mlflow", MlflowClient=server.client)
    put(monkeypatch, "mlflow.entities", Metric=lambda *content: content)
    told(config(type="mlflow", uri="http://tracking:5000"), tmp_path)
    once = list(server.calls)
    assert once == [
        ("client", "http://tracking:5000"),
        ("metric", "run-1", "validation/loss", 3.0, 0),
        ("metric", "run-1", "train/loss", 2.0, 1),
        ("metric", "run-1", "train/learning_rate", 1e-4, 1),
        ("end", "run-1"),
    ]
    told(config(type="mlflow", uri="http://tracking:5000"), tmp_path)
    assert server.calls[len(once) :][:2] == [("client", "http://tracking:5000"), ("again", "run-1", "RUNNING")]
    assert len(server.runs) == 1


def test_mlflow_must_know_where_to(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, "mlflow", MlflowClient=None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"neither tracking.uri nor MLFLOW_TRACKING_URI says where runs go"):
        make_tracker(config(type="mlflow"), WORK, tmp_path)


def test_a_tracker_that_does_not_begin_is_told_before_the_work(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> Any:
        raise RuntimeError("no API key configured")

    put(monkeypatch, "wandb", init=init)
    with pytest.raises(
        TrackingError, match=r"RuntimeError: no API key configured\. .* set tracking.type: none, and run"
    ):
        make_tracker(config(type="wandb"), WORK, tmp_path)


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed here: pip install -e '.[{name}]'")


def test_real_tensorboard_reads_what_was_told_before_and_after_a_kill(tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = make_tracker(config(type="tensorboard"), WORK, tmp_path)
    assert first is not None
    first.write("train", 1, {"loss": 2.0})  # and is killed: nobody closes it
    second = make_tracker(config(type="tensorboard"), WORK, tmp_path)
    assert second is not None
    second.write("train", 2, {"loss": 1.0})
    second.close()
    read = EventAccumulator(str(tmp_path / "tensorboard" / "demo" / "warmup/easy" / WORK.run)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]


ONE_STEP = """
import sys
from pathlib import Path
from itool_pipeline_tests.tracking.test_trackers import WORK, config, make_tracker
writer = make_tracker(config(type="trackio"), WORK, Path("."))
writer.write("train", int(sys.argv[1]), {"loss": float(sys.argv[1])})
writer.close()
"""


def test_real_trackio_goes_on_with_its_run(tmp_path: Path) -> None:
    needs("trackio")
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for step in ("1", "2"):
        subprocess.run([sys.executable, "-c", ONE_STEP, step], capture_output=True, env=environment, check=True)
    with sqlite3.connect(tmp_path / "itool_pipeline.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(run, step, json.loads(text)["train/loss"]) for run, step, text in rows] == [(NAME, 1, 1.0), (NAME, 2, 2.0)]


def test_real_wandb_offline_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    told(config(type="wandb", mode="offline"), tmp_path)
    files = {file.resolve() for file in tmp_path.rglob("*.wandb")}
    assert [b"train/loss" in file.read_bytes() for file in files] == [True]


def test_real_mlflow_has_one_run_of_all_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/runs"
    told(config(type="mlflow", uri=uri), tmp_path)
    again = make_tracker(config(type="mlflow", uri=uri), WORK, tmp_path)
    assert again is not None
    again.write("train", 2, {"loss": 1.0})
    again.close()
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("itool_pipeline")
    (run,) = client.search_runs([found.experiment_id])
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")] == [(1, 2.0), (2, 1.0)]
    assert run.info.status == "FINISHED"

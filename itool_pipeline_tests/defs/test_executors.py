"""`ITOOL_EXECUTOR` decides where steps are computed, however a run is started; and what they ask a cluster for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
import yaml
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandler

from itool_pipeline.config import ComputeConfig
from itool_pipeline.definitions import defs
from itool_pipeline.defs.executors import ExecutorError, chosen_executor
from itool_pipeline.defs.step_compute import ask_for_compute, cluster_tags
from itool_pipeline_tests.defs.test_definitions import USES_MODEL
from itool_pipeline_tests.defs.tiny_runs import ASSETS, JOB, ROOT, TinyHome

ASKING = {"dagster-ray/config", "dagster-k8s/config"}
SMALL = {"model": {"type": "smollm2_wheel"}, "data": {"type": "bfcl_half"}}


@pytest.fixture
def home(tmp_path: Path) -> TinyHome:
    return TinyHome(tmp_path)


def test_one_process_is_the_default_of_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITOOL_EXECUTOR", raising=False)
    jobs = defs.resolve_all_job_defs()
    assert {job.name for job in jobs} > {"itool", "evaluate", "report", "compare"}
    assert len(jobs) > 4, "those that Dagster makes for assets by themselves"
    for job in jobs:
        assert job.executor_def is defs.executor
        assert job.executor_def.name == "in_process"
        assert "execution" not in (job.run_config or {})


@pytest.mark.parametrize(("chosen", "name"), [("", "in_process"), ("multiprocess", "multiprocess")])
def test_the_setting_names_the_executor(chosen: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITOOL_EXECUTOR", chosen)
    assert chosen_executor().name == name


def test_an_unknown_executor_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITOOL_EXECUTOR", "slurm")
    with pytest.raises(ExecutorError, match=r"ITOOL_EXECUTOR is slurm, .* one of in_process, multiprocess, ray, k8s"):
        chosen_executor()


@pytest.mark.parametrize(("name", "package"), [("ray", "dagster_ray"), ("k8s", "dagster_k8s")])
def test_an_executor_that_is_not_installed_is_said_in_words(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITOOL_EXECUTOR", name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExecutorError, match=rf"is {name}, .* not installed .*{package}.*pip install -e '\.\[{name}\]'"):
        chosen_executor()


def test_the_command_line_says_it_without_a_trace() -> None:
    command = "import os, sys; os.environ['ITOOL_EXECUTOR'] = 'slurm'; sys.argv = ['itool_pipeline', 'run', 'demo']"
    program = (
        f"{command}; from itool_pipeline import __main__ as line; line.obstacles = lambda *_: []; sys.exit(line.main())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("ITOOL_EXECUTOR is slurm"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", [JOB, ASSETS], ids=["job", "assets"])
def test_by_default_all_steps_are_in_one_process(home: TinyHome, command: tuple[str, ...]) -> None:
    """Dagster's own default for assets by themselves is a process for each."""
    home.run(command, ITOOL_EXECUTOR="")
    steps, processes = zip(*home.notes(), strict=True)
    assert steps == ("first", "second", "third")
    assert len(set(processes)) == 1


@pytest.mark.slow
def test_multiprocess_is_a_process_for_each_step(home: TinyHome) -> None:
    home.run(JOB, ITOOL_EXECUTOR="multiprocess")
    steps, processes = zip(*home.notes(), strict=True)
    assert steps == ("first", "second", "third")
    assert len(set(processes)) == 3


@pytest.mark.slow
def test_the_command_follows_the_setting_and_its_last_words_are_the_cause(
    home: TinyHome, tiny_model_dir: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"messages": 7}\n')
    experiment = {
        "model": {"type": "hub", "name": str(tiny_model_dir)},
        "data": {"type": "jsonl", "path": str(data)},
        "evaluation": {"bfcl": None},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment))
    variables = {"ITOOL_EXECUTOR": "multiprocess", "ITOOL_EXPERIMENTS": str(tmp_path)}
    assert home.start(("itool_pipeline", "run", "mine"), **variables).wait(timeout=300) == 1
    assert home.output().splitlines()[-1].startswith("examples: "), home.output()
    assert "no training example is left" in home.output().splitlines()[-1]
    with home.instance() as instance:
        (run,) = instance.get_runs()
        started = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    processes = {event.step_key: event.dagster_event.engine_event_data.metadata["pid"] for event in started}  # type: ignore[union-attr]
    assert {"base_model", "examples"} <= processes.keys()
    assert len({value.value for value in processes.values()}) == len(processes)


@pytest.mark.parametrize(
    ("compute", "ray", "limits", "requests"),
    [
        ({}, {"num_gpus": 1}, {"nvidia.com/gpu": "1"}, None),
        ({"device": "cuda"}, {"num_gpus": 1}, {"nvidia.com/gpu": "1"}, None),
        ({"device": "cpu"}, {"num_gpus": 0}, None, None),
        ({"gpus": 0, "cpus": 3}, {"num_gpus": 0, "num_cpus": 3}, None, {"cpu": "3"}),
        (
            {"gpus": 4, "cpus": 16, "memory_gib": 1.5},
            {"num_gpus": 4, "num_cpus": 16, "memory": 1610612736},
            {"nvidia.com/gpu": "4"},
            {"cpu": "16", "memory": "1.5Gi"},
        ),
        (
            {"device": "cpu", "gpus": 1, "memory_gib": 64.0},
            {"num_gpus": 1, "memory": 68719476736},
            {"nvidia.com/gpu": "1"},
            {"memory": "64Gi"},
        ),
    ],
)
def test_what_the_experiment_says_in_the_words_of_the_clusters(
    compute: dict[str, Any], ray: dict[str, int], limits: dict[str, str] | None, requests: dict[str, str] | None
) -> None:
    tags = {key: json.loads(value) for key, value in cluster_tags(ComputeConfig(**compute)).items()}
    wanted = {name: value for name, value in (("requests", requests), ("limits", limits)) if value}
    assert tags == {"dagster-ray/config": ray, "dagster-k8s/config": {"container_config": {"resources": wanted}}}


class Unused(StepHandler):
    name = "unused"
    launch_step = check_step_health = terminate_step = cast(Any, None)


def launched(experiment: str) -> dict[str, ExecutionStep]:
    """Every step of the job `itool` that is known before it runs, as an executor on a cluster hands it on."""
    seen: list[ExecutionStep] = []
    executor: Any = StepDelegatingExecutor(Unused(), RetryMode.DISABLED)

    def handed_on(_: Any, steps: Sequence[ExecutionStep], __: Any) -> None:
        seen.extend(steps)

    executor._get_step_handler_context = handed_on
    plan = create_execution_plan(defs.resolve_job_def("itool"))
    steps = [step for step in plan.step_dict.values() if isinstance(step, ExecutionStep)]
    run = SimpleNamespace(tags={"dagster/partition": experiment})
    assert ask_for_compute(executor) is executor
    executor._get_step_handler_context(SimpleNamespace(dagster_run=run), steps, None)
    return {step.key: step for step in seen}


def test_steps_that_use_the_model_ask_for_what_their_experiment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    compute = {"gpus": 2, "memory_gib": 3.0}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump({**SMALL, "compute": compute}))
    steps = launched("large")
    asking = {key: step for key, step in steps.items() if step.tags.keys() & ASKING}
    # Those behind the fan-out are known when it has run.
    known = {name for name in USES_MODEL if not name.endswith(("search_shards", "gather"))}
    assert set(asking) == known
    assert len(steps) > len(asking)
    for step in asking.values():
        assert json.loads(step.tags["dagster-ray/config"]) == {"num_gpus": 2, "memory": 3221225472}
        assert step.pool == "gpu"

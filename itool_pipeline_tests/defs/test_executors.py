"""`ITOOL_EXECUTOR` decides where steps are computed, however a run is started; and what they ask a cluster for."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
from itool_pipeline.defs.executors import PRELOADED, ExecutorError, chosen_executor
from itool_pipeline.defs.step_compute import ask_for_compute, cluster_tags
from itool_pipeline_tests.defs import tiny_definitions
from itool_pipeline_tests.defs.test_definitions import USES_MODEL
from itool_pipeline_tests.defs.tiny_runs import ASSETS, BACKFILL, DAEMON, JOB, LAUNCH, ROOT, TinyHome

DOORS = ("dagster/backfill", "dagster/schedule_name", "dagster/sensor_name")
"""Tags of runs that were started in another way than by hand."""
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
        assert job.name == "compare" or job.executor_def is defs.executor
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


def test_what_steps_are_forked_from_has_looked_for_no_gpu() -> None:
    """What has, cannot be forked; and torch with what is built on it may look as it is imported."""
    program = "; ".join([*(f"import {name}" for name in PRELOADED), "import sys", "print(*sys.modules)"])
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert imported >= {"dagster", "itool_pipeline", "sqlalchemy"}
    assert not imported & {"torch", "transformers", "peft", "bitsandbytes"}


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
        f"{command}; from itool_pipeline.commands import run; run.obstacles = lambda *_: []; "
        "from itool_pipeline.__main__ import main; sys.exit(main())"
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
def test_what_the_daemon_starts_is_in_one_process_too(home: TinyHome) -> None:
    """A run that was launched, as the UI does it, a backfill, a schedule and a sensor: each run is a process."""
    home.run(LAUNCH)
    home.run(BACKFILL)
    daemon = home.start(DAEMON, ITOOL_EXECUTOR="", TINY_TICKS="yes")
    try:
        with home.instance() as instance:

            def doors() -> set[str]:
                runs = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
                return {next((tag for tag in DOORS if tag in run.tags), "launched") for run in runs}

            home.wait_until(lambda: doors() == {*DOORS, "launched"}, 400)
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
    steps = defaultdict(list)
    for step, process in home.notes():
        steps[process].append(step)
    whole = ["first", "second", "third"]
    assert sum(found == whole for found in steps.values()) >= 4
    assert all(found == whole[: len(found)] for found in steps.values()), "one of the schedule's may be under way"


@pytest.mark.slow
def test_the_last_words_on_a_killed_step_are_what_became_of_it(home: TinyHome) -> None:
    process = home.start(JOB, ITOOL_EXECUTOR="multiprocess", TINY_WAITS="yes")
    home.wait_until(lambda: len(home.notes()) == 3, 300)
    os.kill(home.notes()[-1][1], signal.SIGKILL)
    assert process.wait(timeout=300) == 1
    last = home.output().splitlines()[-1]
    assert last.startswith("third: The process of this step ended and left no error. It was killed, perhaps"), last


@pytest.mark.slow
def test_multiprocess_is_a_process_for_each_step(home: TinyHome) -> None:
    home.run(JOB, ITOOL_EXECUTOR="multiprocess")
    steps, processes = zip(*home.notes(), strict=True)
    assert steps == ("first", "second", "third")
    assert len(set(processes)) == 3


OWN_COMMAND = ("itool_pipeline", "run", "mine")
DAGSTERS = ("dagster", "job", "execute", "-m", "itool_pipeline.definitions", "-j", "itool")


@pytest.mark.slow
@pytest.mark.parametrize("command", [OWN_COMMAND, (*DAGSTERS, "--tags", '{"dagster/partition": "mine"}')])
def test_the_commands_follow_the_setting_and_their_last_words_are_the_cause(
    command: tuple[str, ...], home: TinyHome, tiny_model_dir: Path, tmp_path: Path
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
    assert home.start(command, **variables).wait(timeout=600) == 1
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
        ({"processes": 4}, {"num_gpus": 4}, {"nvidia.com/gpu": "4"}, None),
        ({"processes": 4, "device": "cpu"}, {"num_gpus": 0}, None, None),
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


class Asked(Exception):
    """Ends a run when its first step has been asked for."""


@pytest.fixture
def tiny_on(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tiny definitions with the executor that is asked for, if it is installed, and an experiment for them."""
    package = pytest.importorskip(f"dagster_{request.param}")
    monkeypatch.setenv("ITOOL_EXECUTOR", request.param)
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path))
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    compute = {"gpus": 2, "cpus": 3, "memory_gib": 5.0}
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump({**SMALL, "compute": compute}))
    importlib.reload(tiny_definitions)
    yield package.__name__
    monkeypatch.undo()
    importlib.reload(tiny_definitions)


def execute_second(instance: dg.DagsterInstance, **options: Any) -> None:
    """Run the step that uses the model, up to where the cluster is asked for it."""
    job, demo = dg.reconstructable(tiny_definitions.tiny_job), {"dagster/partition": "demo"}
    with pytest.raises(Asked):
        dg.execute_job(
            job,
            instance=instance,
            tags=demo,
            run_config={"execution": {"config": options}},
            asset_selection=[dg.AssetKey("second")],
            raise_on_error=True,
        )


@pytest.mark.parametrize("tiny_on", ["ray"], indirect=True)
def test_ray_is_asked_for_it(tiny_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Client:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def submit_job(self, **what: Any) -> None:
            asked.update(what)
            raise Asked

        def stop_job(self, _: str) -> None: ...

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", Client)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        execute_second(instance, ray={"env_vars": ["MINE=1"]})
    assert (asked["entrypoint_num_gpus"], asked["entrypoint_num_cpus"]) == (2, 3)
    assert asked["entrypoint_memory"] == 5 * 2**30
    passed = {name: value for name, value in asked["runtime_env"]["env_vars"].items() if "DAGSTER" not in name}
    assert passed == {
        "ITOOL_EXECUTOR": "ray",
        "ITOOL_STORAGE": str(tmp_path),
        "ITOOL_EXPERIMENTS": str(tmp_path),
        "MINE": "1",
    }


@pytest.mark.parametrize("tiny_on", ["k8s"], indirect=True)
def test_kubernetes_is_asked_for_it(tiny_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create(body: Any, namespace: str) -> None:
        asked.append(body)
        raise Asked

    client = SimpleNamespace(create_namespaced_job_with_retries=create, delete_job=lambda **_: None)
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    monkeypatch.setattr("dagster_k8s.client.DagsterKubernetesClient.production_client", lambda **_: client)
    config = {"service_account_name": "s", "instance_config_map": "m", "dagster_home": "/home", "job_image": "image"}
    launcher = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": config}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"run_launcher": launcher}) as instance:
        execute_second(instance, env_vars=["MINE=1"])
    (container,) = asked[0].to_dict()["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == {"cpu": "3", "memory": "5Gi"}
    passed = {env["name"]: env["value"] for env in container["env"] if "DAGSTER" not in env["name"]}
    assert passed == {
        "ITOOL_EXECUTOR": "k8s",
        "ITOOL_STORAGE": str(tmp_path),
        "ITOOL_EXPERIMENTS": str(tmp_path),
        "MINE": "1",
    }


@pytest.mark.parametrize("tiny_on", ["ray", "k8s"], indirect=True)
def test_a_cluster_that_does_not_answer_is_said_in_words(
    tiny_on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        pytest.raises(ExecutorError, match=r"ITOOL_EXECUTOR is (ray|k8s), and the cluster cannot be reached: "),
    ):
        dg.execute_job(dg.reconstructable(tiny_definitions.tiny_job), instance, tags={"dagster/partition": "demo"})

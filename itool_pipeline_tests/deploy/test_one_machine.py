"""The manifests at work, without a cluster: their code server and daemon, and a run and steps as jobs of processes.

Held here is what the pods are told: arguments, variables, the way to each other and to what they share. Not held is
what only a cluster does: images, volumes, accounts, the network, GPUs; and Postgres, in whose place SQLite stands.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from itool_pipeline_tests.deploy.manifests import Manifests
from itool_pipeline_tests.deploy.one_machine import Job, OneMachine, one_machine, write_client_config

pytestmark = pytest.mark.slow
pytest.importorskip("dagster_k8s")

MODULE = "itool_pipeline_tests.deploy.fanning_definitions"
EXPERIMENT = {
    "model": {"type": "smollm2_wheel"},
    "data": {"type": "bfcl_half"},
    "compute": {"gpus": 2, "memory_gib": 5.0},
}
STEPS = {"deal", "square[share_2]", "square[share_3]", "gather"}


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneMachine]:
    """A cluster in which the run has ended."""
    root = tmp_path_factory.mktemp("cluster")
    storage, home = root / "storage", root / "home"
    (storage / "experiments").mkdir(parents=True)
    (storage / "experiments" / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    home.mkdir()
    manifests = Manifests(
        {
            "/itool/storage": str(storage),
            "/itool/home": str(home),
            "host: itool-code": "host: 127.0.0.1",
            "4000": str(free_port()),
            "itool_pipeline.definitions": MODULE,
        }
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    write_client_config(root / "client.yaml", server.server_port)
    settings = manifests.settings()
    settings["storage"] = {"sqlite": {"base_dir": str(root / "sqlite")}}
    settings["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(root / "client.yaml"),
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    (home / "workspace.yaml").write_text(manifests.data("itool-dagster")["workspace.yaml"])
    with one_machine(root, manifests, server) as machine:
        launch_and_wait(machine, home)
        yield machine


def launch_and_wait(machine: OneMachine, home: Path) -> None:
    """As a person does: `kubectl exec deploy/itool-daemon -- dagster job launch …`."""

    def container(deployment: str) -> dict[str, Any]:
        spec = machine.manifests.of_kind("Deployment")[deployment]["spec"]["template"]["spec"]
        found: dict[str, Any] = spec["containers"][0]
        return found

    code, daemon = container("itool-code"), container("itool-daemon")
    machine.start("code", code, home)
    ready = {**code, "args": code["readinessProbe"]["exec"]["command"]}
    wait_until(machine, lambda: ended(machine, "ready", ready, home) == 0, 300)
    machine.start("daemon", daemon, home)
    workspace = ("-w", str(home / "workspace.yaml"))
    launch = ["dagster", "job", "launch", *workspace, "-j", "fan", "--tags", '{"dagster/partition": "mine"}']
    assert ended(machine, "launch", {**daemon, "args": launch}, home) == 0, machine.output()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        wait_until(machine, lambda: instance.get_runs()[0].is_finished, 1800)
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS, machine.output()


def ended(machine: OneMachine, name: str, container: dict[str, Any], home: Path) -> int:
    machine.start(name, container, home)
    return machine.processes[name].wait(timeout=300)


def wait_until(machine: OneMachine, happened: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, machine.output()
        time.sleep(0.5)


def jobs(machine: OneMachine, component: str) -> list[Job]:
    label = "app.kubernetes.io/component"
    return [job for job in machine.jobs.values() if job["metadata"]["labels"][label] == component]


def step_of(job: Job) -> str:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables: dict[str, str] = {one["name"]: one["value"] for one in container["env"]}
    return variables["DAGSTER_RUN_STEP_KEY"].removeprefix("gathered.")


def test_the_run_is_a_job_and_each_step_is_one(machine: OneMachine) -> None:
    assert len(jobs(machine, "run_worker")) == 1
    assert {step_of(job) for job in jobs(machine, "step_worker")} == STEPS
    assert len(machine.jobs) == 1 + len(STEPS)


def test_what_steps_hand_on_is_found_in_other_pods(machine: OneMachine) -> None:
    assert Path(machine.manifests.data("itool-env")["ITOOL_STORAGE"], "gathered").read_text() == "13"


def test_nothing_is_left_where_other_pods_do_not_look(machine: OneMachine) -> None:
    """Here all processes see the home of the daemon, which in a cluster is each pod's own."""
    homes = [machine.root / "home", *machine.root.glob("dagster-*.*/")]
    assert len(homes) == 1 + len(machine.jobs)
    left = {path.name for home in homes for path in home.rglob("*") if path.is_file()}
    assert left == {"dagster.yaml", "workspace.yaml"}


def test_every_pod_is_given_the_same(machine: OneMachine) -> None:
    code = machine.manifests.of_kind("Deployment")["itool-code"]["spec"]["template"]["spec"]
    (served,) = code["containers"]
    storage = machine.manifests.data("itool-env")["ITOOL_STORAGE"]
    for job in machine.jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == served["image"]
        assert "command" not in container
        assert container["envFrom"] == served["envFrom"]
        assert container["volumeMounts"] == [{"name": "storage", "mountPath": storage}]
        assert pod["volumes"] == [{"name": "storage", "persistentVolumeClaim": {"claimName": "itool-storage"}}]
        assert pod["serviceAccountName"] == code["serviceAccountName"]
        assert pod["securityContext"] == code["securityContext"]


def test_steps_that_use_the_model_ask_for_gpus(machine: OneMachine) -> None:
    for job in jobs(machine, "step_worker"):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        asked = {"limits": {"nvidia.com/gpu": "2"}, "requests": {"memory": "5Gi"}}
        assert (container.get("resources") or {}) == ({} if step_of(job) == "deal" else asked), step_of(job)

"""`deploy/k8s`: every field is one that Kubernetes or Dagster knows, and what refers to another finds it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef

from itool_pipeline_tests.deploy.manifests import ROOT, SECRET, Document, Manifests

MANIFESTS = Manifests()
ENVIRONMENT = {"ITOOL_EXECUTOR": "k8s", "ITOOL_STORAGE": "/itool/storage"}
MODELS = {
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "Service": "V1Service",
    "ServiceAccount": "V1ServiceAccount",
    "StatefulSet": "V1StatefulSet",
}
DEPLOYMENTS = ("itool-code", "itool-daemon", "itool-ui")


def pod(deployment: str) -> Document:
    found: Document = MANIFESTS.of_kind("Deployment")[deployment]["spec"]["template"]["spec"]
    return found


def container(deployment: str) -> Document:
    (found,) = pod(deployment)["containers"]
    assert isinstance(found, dict)
    return found


def mounts(deployment: str) -> dict[str, Any]:
    """Path → what the claim or the config map that is mounted there is called, and which of its files."""
    volumes = {v["name"]: v.get("persistentVolumeClaim") or v["configMap"] for v in pod(deployment)["volumes"]}
    return {m["mountPath"]: (volumes[m["name"]], m.get("subPath")) for m in container(deployment)["volumeMounts"]}


@pytest.mark.parametrize("document", MANIFESTS.documents, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_kubernetes_knows_every_field(document: Document) -> None:
    pytest.importorskip("dagster_k8s")
    import kubernetes
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

    model = getattr(kubernetes.client, MODELS[document["kind"]])
    assert document["metadata"]["namespace"] == "itool"
    k8s_model_from_dict(model, k8s_snake_case_dict(model, document))


def test_an_unknown_field_is_seen() -> None:
    pytest.importorskip("dagster_k8s")
    import kubernetes
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

    model = kubernetes.client.V1Deployment
    wrong = {"spec": {"template": {"spec": {"containers": [{"name": "a", "imagee": "b"}]}}}}
    with pytest.raises(Exception, match="imagee"):
        k8s_model_from_dict(model, k8s_snake_case_dict(model, wrong))


def test_dagster_takes_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance's own, those of its storages and of its launcher; no cluster and no database is asked."""
    pytest.importorskip("dagster_k8s")
    monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: None)
    (tmp_path / "dagster.yaml").write_text(MANIFESTS.data("itool-dagster")["dagster.yaml"])
    read, _ = dagster_instance_config(str(tmp_path))
    assert read == MANIFESTS.settings()
    ref = InstanceRef.from_dir(str(tmp_path))
    assert type(ref.run_launcher).__name__ == "K8sRunLauncher"
    assert ref.local_artifact_storage.base_dir == read["local_artifact_storage"]["config"]["base_dir"]
    assert type(ref.compute_log_manager).__name__ == "LocalComputeLogManager"


def test_the_databases_driver_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is made, but SQLAlchemy loads the driver that the settings ask for."""
    storage = pytest.importorskip("dagster_postgres.storage").DagsterPostgresStorage
    utils = pytest.importorskip("dagster_postgres.utils")
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    config = process_config(storage.config_type(), MANIFESTS.settings()["storage"]["postgres"])
    assert config.success, config.errors
    url = utils.pg_url_from_config(config.value)
    assert sqlalchemy.create_engine(url).driver == "psycopg2"


def test_the_settings_of_the_storage_folder_hold_here_too() -> None:
    here, there = (MANIFESTS.settings(), yaml.safe_load((ROOT / "storage" / "dagster.yaml").read_text()))
    here["run_monitoring"] = {name: here["run_monitoring"][name] for name in there["run_monitoring"]}
    assert {name: here[name] for name in there} == there


def test_the_workspace_names_the_code_servers_service() -> None:
    (location,) = yaml.safe_load(MANIFESTS.data("itool-dagster")["workspace.yaml"])["load_from"]
    service = MANIFESTS.of_kind("Service")[location["grpc_server"]["host"]]
    assert [port["port"] for port in service["spec"]["ports"]] == [location["grpc_server"]["port"]]
    arguments = container("itool-code")["args"]
    assert arguments[arguments.index("-p") + 1] == str(location["grpc_server"]["port"])


def test_services_find_their_pods() -> None:
    served = {
        name: document["spec"]["template"]
        for kind in ("Deployment", "StatefulSet")
        for name, document in MANIFESTS.of_kind(kind).items()
    }
    for name, service in MANIFESTS.of_kind("Service").items():
        template = served[name]
        assert template["metadata"]["labels"] == service["spec"]["selector"]
        (one,) = template["spec"]["containers"]
        assert [p["containerPort"] for p in one["ports"]] == [p["port"] for p in service["spec"]["ports"]]


def test_there_is_one_image() -> None:
    images = {container(name)["image"] for name in DEPLOYMENTS}
    named = {one["value"] for one in container("itool-code")["env"] if one["name"] == "DAGSTER_CURRENT_IMAGE"}
    assert images == named
    assert len(images) == 1


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_process_has_the_same_storage_and_settings(deployment: str) -> None:
    assert mounts(deployment) == {
        ENVIRONMENT["ITOOL_STORAGE"]: ({"claimName": "itool-storage"}, None),
        "/itool/home/dagster.yaml": ({"name": "itool-dagster"}, "dagster.yaml"),
        "/itool/home/workspace.yaml": ({"name": "itool-dagster"}, "workspace.yaml"),
    }
    assert "ReadWriteMany" in MANIFESTS.of_kind("PersistentVolumeClaim")["itool-storage"]["spec"]["accessModes"]
    own = {"DAGSTER_CURRENT_IMAGE"} if deployment == "itool-code" else set()
    given = MANIFESTS.environment(container(deployment))
    assert {name: value for name, value in given.items() if name not in own} == {**ENVIRONMENT, **SECRET}


def test_a_run_is_given_the_same_as_the_code_server() -> None:
    config, code = MANIFESTS.settings()["run_launcher"]["config"], container("itool-code")
    assert [{"configMapRef": {"name": name}} for name in config["env_config_maps"]] + [
        {"secretRef": {"name": name}} for name in config["env_secrets"]
    ] == code["envFrom"]
    (volume,), (mount,) = config["volumes"], config["volume_mounts"]
    assert mounts("itool-code")[mount["mountPath"]] == (volume["persistentVolumeClaim"], None)
    assert config["service_account_name"] == pod("itool-code")["serviceAccountName"]
    asked = config["run_k8s_config"]["pod_spec_config"]["security_context"]
    assert {re.sub(r"_(\w)", lambda m: m[1].upper(), name): value for name, value in asked.items()} == pod(
        "itool-code"
    )["securityContext"]


def test_what_other_pods_read_lies_in_the_shared_storage() -> None:
    found = MANIFESTS.settings()
    for section in ("local_artifact_storage", "compute_logs"):
        assert found[section]["config"]["base_dir"].startswith(f"{ENVIRONMENT['ITOOL_STORAGE']}/")


def test_the_database_is_the_one_that_is_there() -> None:
    asked = MANIFESTS.settings()["storage"]["postgres"]["postgres_db"]
    assert asked["password"] == {"env": "DAGSTER_PG_PASSWORD"}
    (database,) = MANIFESTS.of_kind("StatefulSet")[asked["hostname"]]["spec"]["template"]["spec"]["containers"]
    made = MANIFESTS.environment(database)
    assert (made["POSTGRES_USER"], made["POSTGRES_DB"]) == (asked["username"], asked["db_name"])
    assert made["POSTGRES_PASSWORD"] == SECRET["DAGSTER_PG_PASSWORD"]
    assert [p["port"] for p in MANIFESTS.of_kind("Service")[asked["hostname"]]["spec"]["ports"]] == [asked["port"]]


def test_the_account_may_do_what_the_launcher_does() -> None:
    (role,) = MANIFESTS.of_kind("Role").values()
    (binding,) = MANIFESTS.of_kind("RoleBinding").values()
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert subject["name"] in MANIFESTS.of_kind("ServiceAccount")
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    asked = {
        *(("jobs", verb) for verb in ("create", "delete", "list")),
        *(("pods", verb) for verb in ("delete", "get", "list")),
        *((resource, "get") for resource in ("jobs/status", "pods/log")),
        ("events", "list"),
    }
    assert asked <= allowed


def test_secrets_are_referred_to_and_stand_nowhere() -> None:
    assert "Secret" not in {document["kind"] for document in MANIFESTS.documents}
    (database,) = MANIFESTS.of_kind("StatefulSet")["itool-postgres"]["spec"]["template"]["spec"]["containers"]
    variables = [one for each in (database, *map(container, DEPLOYMENTS)) for one in each.get("env") or []]
    secret = [one for one in variables if "PASSWORD" in one["name"]]
    assert [one["valueFrom"]["secretKeyRef"]["name"] for one in secret] == ["itool-secrets"]
    given = {source["secretRef"]["name"] for name in DEPLOYMENTS for source in container(name)["envFrom"][1:]}
    assert given == {"itool-secrets"}

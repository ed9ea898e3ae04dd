"""The Dockerfile names files, extras and versions that there are, and runs what the manifests run."""

from __future__ import annotations

import re
import tomllib

from itool_pipeline_tests.deploy.manifests import ROOT, Manifests

TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(name: str) -> list[str]:
    return [rest for word, rest in LINES if word == name]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_what_is_copied_is_there_and_is_let_through() -> None:
    ignored, *let_through = (ROOT / ".dockerignore").read_text().split()
    assert ignored == "*"
    copied = {file for line in instructions("COPY") for file in line.split()[:-1]}
    assert {f"!{file}" for file in copied} == {line for line in let_through if line.startswith("!")}
    assert all((ROOT / file).exists() for file in copied)


def test_dependencies_come_before_the_source() -> None:
    words = [(word, rest) for word, rest in LINES if word in ("COPY", "RUN")]
    installs = [n for n, (word, rest) in enumerate(words) if word == "RUN" and "--constraint constraints.txt" in rest]
    source = words.index(("COPY", "itool_pipeline itool_pipeline"))
    assert len(installs) == 2, "torch, and the others"
    assert max(installs) < source
    assert any("--no-deps --editable ." in rest for word, rest in words[source:] if word == "RUN")


def test_the_extras_are_there_and_nothing_is_compiled() -> None:
    (install,) = (line for line in instructions("RUN") if "'.[" in line)
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", install)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert "k8s" in extras.split(",")
    assert "--only-binary :all:" in install


def test_versions_are_those_that_were_tested_together() -> None:
    for requirement in PROJECT["optional-dependencies"]["k8s"]:
        name, version = requirement.split("==")
        assert pinned()[name] == version
    assert {"kubernetes", "psycopg2-binary", "torch"} <= pinned().keys()


def test_python_is_one_that_the_project_runs_on() -> None:
    (base,) = instructions("FROM")
    assert base == "python:3.11-slim"
    assert PROJECT["requires-python"] == ">=3.11,<3.13"


def test_it_runs_as_an_ordinary_user_in_the_folders_of_the_manifests() -> None:
    manifests = Manifests()
    code = manifests.of_kind("Deployment")["itool-code"]["spec"]["template"]["spec"]
    (user,) = instructions("USER")
    assert user == f"{code['securityContext']['runAsUser']}:{code['securityContext']['runAsGroup']}"
    variables = dict(word.split("=", 1) for line in instructions("ENV") for word in line.split())
    assert variables["ITOOL_STORAGE"] == manifests.data("itool-env")["ITOOL_STORAGE"]
    assert variables["DAGSTER_HOME"] == manifests.settings()["run_launcher"]["config"]["dagster_home"]


def test_it_serves_the_code_by_itself_and_has_no_entry_point() -> None:
    """With one, the arguments that Dagster gives to runs and steps would be the entry point's."""
    (command,) = instructions("CMD")
    arguments = Manifests().of_kind("Deployment")["itool-code"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert command == str(arguments).replace("'", '"')
    assert instructions("ENTRYPOINT") == []

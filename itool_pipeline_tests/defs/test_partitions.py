"""An experiment file is a partition as soon as it is there, and no more when it has gone, without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
import yaml

from itool_pipeline.defs.partitions import experiment_files, experiments
from itool_pipeline_tests.defs.served import WITH_DAEMON, Ui, ui
from itool_pipeline_tests.defs.tiny_runs import MODULE, TinyHome

REAL = "itool_pipeline.definitions"
NAME = "experiments"
SHOWN = '{ assetNodeOrError(assetKey: {path: ["report"]}) { ... on AssetNode { partitionKeys } } shouldShowNux }'


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments"
    folder.mkdir()
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(folder))
    for name in ("b", "a"):
        write(folder, name)
    return folder


def write(folder: Path, name: str) -> None:
    (folder / f"{name}.yaml").write_text("extends: demo\n")


def look(instance: dg.DagsterInstance) -> str:
    """What the sensor says at one look, after which the instance is as Dagster's daemon leaves it."""
    result = experiment_files(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        assert request.partitions_def_name == NAME
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(NAME, request.partition_keys)
        else:
            for key in request.partition_keys:
                instance.delete_dynamic_partition(NAME, key)
    assert not result.run_requests
    assert result.skip_reason is not None
    return result.skip_reason.skip_message or ""


def test_the_sensor_keeps_the_instance_as_the_files_are(files: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(instance) == "new: a, b"
        assert instance.get_dynamic_partitions(NAME) == ["a", "b"]
        assert look(instance) == "2 experiments, as before."
        write(files, "c")
        (files / "a.yaml").unlink()
        assert look(instance) == "new: c; gone: a"
        assert instance.get_dynamic_partitions(NAME) == ["b", "c"]


def test_a_folder_that_is_not_there_takes_no_partition_away(files: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        look(instance)
        files.rename(files.with_name("elsewhere"))
        assert look(instance) == "0 experiments, as before."
        assert instance.get_dynamic_partitions(NAME) == ["a", "b"]


def test_a_name_that_dagster_refuses_stops_nobody_else(files: Path) -> None:
    write(files, "from...to")
    assert experiments.get_partition_keys() == ["a", "b"]
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(instance) == "new: a, b"


def test_the_definition_asks_the_files(files: Path) -> None:
    assert experiments.has_partition_key("a")
    assert not experiments.has_partition_key("c")
    write(files, "c")
    assert experiments.has_partition_key("c")
    assert experiments.filter_valid_partition_keys({"c", "d"}) == {"c"}


def test_a_home_knows_the_experiments_as_soon_as_the_definitions_are_loaded(files: Path, tmp_path: Path) -> None:
    home = TinyHome(tmp_path)
    for name in ("c", "d"):
        write(files, name)
        home.run(("itool_pipeline.definitions",))
    with home.instance() as instance:
        assert instance.get_dynamic_partitions(NAME) == ["a", "b", "c", "d"]


def test_a_database_that_cannot_be_reached_is_named_and_stops_nothing(files: Path, tmp_path: Path) -> None:
    home = TinyHome(tmp_path)
    (tmp_path / "history").write_text("no folder")
    home.run(("itool_pipeline.definitions",))
    assert "The sensor experiment_files will make the partitions, not now" in home.output()


@pytest.mark.slow
def test_a_partition_of_the_command_line_needs_no_sensor(files: Path, tmp_path: Path) -> None:
    home = TinyHome(tmp_path)
    home.run(("dagster", "job", "execute", "-m", MODULE, "-j", "tiny", "--tags", '{"dagster/partition": "a"}'))
    home.run(("dagster", "asset", "materialize", "-m", MODULE, "--select", "first", "--partition", "b"))
    assert [step for step, _ in home.notes()] == ["first", "second", "third", "first"]


@pytest.mark.slow
def test_a_name_that_is_no_experiments_ends_the_run_with_a_sentence(files: Path, tmp_path: Path) -> None:
    home = TinyHome(tmp_path)
    command = ("dagster", "job", "execute", "-m", REAL, "-j", "report", "--tags", '{"dagster/partition": "mien"}')
    assert home.start(command).wait(timeout=300) == 1
    assert "mien.yaml: no such experiment; there are: a, b" in home.output()


@contextmanager
def watched(tmp_path: Path) -> Iterator[tuple[TinyHome, Ui]]:
    home = TinyHome(tmp_path)
    with ui(home, REAL, WITH_DAEMON) as served:
        yield home, served


@pytest.mark.slow
def test_a_file_comes_and_goes_in_the_ui_without_a_restart(files: Path, tmp_path: Path) -> None:
    with watched(tmp_path) as (home, served):

        def shown() -> list[str]:
            keys: list[str] = served.ask(SHOWN)["assetNodeOrError"]["partitionKeys"]
            return keys

        assert shown() == ["a", "b"], "before any sensor"
        write(files, "c")
        home.wait_until(lambda: shown() == ["a", "b", "c"], 300)
        (files / "a.yaml").unlink()
        home.wait_until(lambda: shown() == ["b", "c"], 300)


@pytest.mark.slow
def test_nobody_is_asked_for_an_email_address(files: Path, tmp_path: Path) -> None:
    home = TinyHome(tmp_path)
    with ui(home, MODULE) as served:
        assert served.ask("{ shouldShowNux }") == {"shouldShowNux": False}
    settings = tmp_path / "dagster.yaml"
    settings.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(settings.read_text()).items() if k != "nux"}))
    with ui(home, MODULE) as served:
        assert served.ask("{ shouldShowNux }") == {"shouldShowNux": True}, "that is Dagster's own way"

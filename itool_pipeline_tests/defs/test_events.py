"""What a run leaves in Dagster's log: data versions, rows and checks, each of one partition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.data_version import extract_data_version_from_entry

from itool_pipeline.definitions import defs
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.steps.plan import plan

pytestmark = pytest.mark.slow


class Home:
    """Two experiments, each on a file of chats, and the instance in which they are run."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path, model: Path) -> None:
        self.instance, self.folder = instance, folder
        for name, rows in (("one", 4), ("two", 3)):
            self.write(name, rows)
            config = {
                "model": {"type": "hub", "name": str(model)},
                "data": {"type": "jsonl", "path": str(folder / f"{name}.jsonl")},
                "evaluation": {"bfcl": None},
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))

    def write(self, name: str, rows: int) -> None:
        said = [[("user", f"What is {i}?"), ("assistant", f"It is {i}.")] for i in range(rows)]
        lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) for turns in said]
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines))

    def run(self, name: str) -> dg.ExecuteInProcessResult:
        job = defs.resolve_job_def("itool")
        keys = [dg.AssetKey(key) for key in ("base_model", "examples", "splits")]
        return job.execute_in_process(instance=self.instance, partition_key=name, asset_selection=keys)

    def events(self, asset: str, name: str) -> list[Any]:
        """The materializations of the partition, the last first."""
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[name])
        return list(self.instance.fetch_materializations(wanted, limit=9).records)

    def versions(self, asset: str, name: str) -> list[str]:
        found = [extract_data_version_from_entry(record.event_log_entry) for record in self.events(asset, name)]
        return [version.value for version in found if version is not None]


@pytest.fixture
def home(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    for variable in ("ITOOL_STORAGE", "ITOOL_EXPERIMENTS"):
        monkeypatch.setenv(variable, str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Home(instance, tmp_path, tiny_model_dir)


def test_the_data_version_is_the_fingerprint_and_the_same_where_nothing_changed(home: Home) -> None:
    home.run("one")
    home.run("one")
    fingerprints = {asset: planned.fingerprint for asset, planned in plan(load_experiment("one")).items()}
    for asset in ("base_model", "examples", "splits"):
        assert home.versions(asset, "one") == [fingerprints[asset]] * 2
    home.write("one", 5)
    home.run("one")
    assert home.versions("base_model", "one") == [fingerprints["base_model"]] * 3
    for asset in ("examples", "splits"):
        last, *before = home.versions(asset, "one")
        assert last != fingerprints[asset]
        assert before == [fingerprints[asset]] * 2


def test_rows_and_checks_are_of_one_partition(home: Home) -> None:
    checked = {}
    for name, rows in (("one", 4), ("two", 3)):
        done = home.run(name)
        (made,) = home.events("examples", name)
        counted = made.asset_materialization.metadata["dagster/row_count"].value
        assert counted == rows
        checked[name] = {(c.asset_key.to_user_string(), c.check_name, c.partition) for c in checks_of(done)}
    for name, found in checked.items():
        assert found == {("examples", "quarantine", name), ("splits", "disjoint", name), ("splits", "no_leak", name)}
    key = dg.AssetCheckKey(dg.AssetKey("splits"), "disjoint")
    with_partitions = home.instance.event_log_storage.get_asset_check_execution_history(key, limit=9)
    assert {record.partition for record in with_partitions} == {"one", "two"}


def checks_of(done: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    evaluations = list(done.get_asset_check_evaluations())
    assert all(evaluation.passed for evaluation in evaluations)
    return evaluations

"""Figures of a step are in Dagster's event log while the step works, under its asset and partition."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from itool_pipeline.defs.resources import RunOptions, workspace
from itool_pipeline.tracking import trackers
from itool_pipeline_tests.defs.test_records import write_experiment

NAME = "mine"
OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION


@dg.op(out=dg.Out(dg.Nothing))
def search(context: dg.OpExecutionContext, options: RunOptions) -> None:
    """As one op of several that make an asset."""
    ws = workspace(context, options)
    ws.observe("iteration_1/trees", {"step": 3, "search/nodes": 7.5})
    (entry,) = context.instance.all_logs(context.run_id, of_type=OBSERVED)
    assert entry.get_dagster_event().step_key == "make.search", "it is there before the step has ended"


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.AssetsDefinition:
    write_experiment(tmp_path)
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    monkeypatch.setenv("ITOOL_STORAGE", str(tmp_path / "storage"))

    @dg.graph
    def make() -> Any:
        return search()

    key = dg.AssetKey(["iteration_1", "trees"])
    partitions = dg.StaticPartitionsDefinition([NAME])
    return dg.AssetsDefinition.from_graph(make, keys_by_output_name={"result": key}, partitions_def=partitions)


def test_an_observation_is_logged_as_it_comes(trees: dg.AssetsDefinition) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [trees], partition_key=NAME, instance=instance, resources={"options": RunOptions()}, raise_on_error=True
        )
        assert done.success
        (record,) = instance.get_event_records(dg.EventRecordsFilter(OBSERVED, asset_key=trees.key))
    observed = record.asset_observation
    assert observed is not None
    assert observed.partition == NAME
    assert {name: value.value for name, value in observed.metadata.items()} == {"step": 3, "search/nodes": 7.5}


def test_a_tracker_that_is_missing_ends_the_first_step(
    trees: dg.AssetsDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_experiment(tmp_path, tracking={"type": "trackio"})
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match=r"tracking\.type is trackio"):
        dg.materialize([trees], partition_key=NAME, instance=instance, resources={"options": RunOptions()})

"""When an experiment's data change, what runs by itself: decided by Dagster's own evaluation of the conditions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.definitions.data_version import extract_data_version_from_entry

from itool_pipeline.definitions import defs
from itool_pipeline.defs.data_changes import DATA
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.defs.sources import LOCAL_FILES, source_files, sources
from itool_pipeline.steps.asset_graph import ALL, assets_of

CHECKS = {"examples": ("quarantine",), "splits": ("disjoint", "no_leak"), "bfcl_cases": ("no_leak",)}
"""The blocking checks of what an experiment that is scored on BFCL alone has."""
NOT_SCORED = tuple(f"{benchmark}/" for benchmark in ALL if benchmark != "bfcl")
REST = {asset for asset in assets_of() if asset not in (*DATA, "base_model", "bfcl/base")}
TRAINED = {asset for asset in REST if not asset.startswith(NOT_SCORED)}
"""What comes of the data that are trained on; the base model's scores do not."""
pytestmark = pytest.mark.slow


class Watched:
    """An instance of Dagster's in which files change, and data are made and checked."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        self.instance, self.data, self._cursor, self._looked = instance, folder / "mine.json", None, None
        for name in ("mine", "other"):
            self.data.with_name(f"{name}.json").write_text("[]")
            path = self.data.with_name(f"{name}.json")
            (folder / f"{name}.yaml").write_text(
                f"model: {{type: smollm2_wheel}}\ndata: {{type: toolace, path: {path}}}\n"
            )
        instance.add_dynamic_partitions("experiments", ["mine", "other"])
        self._made = 0

    def look(self) -> list[tuple[str, str]]:
        """What the sensor observes: source and experiment."""
        result = cast(dg.SensorResult, source_files(dg.build_sensor_context(self.instance, cursor=self._looked)))
        self._looked = cast(Any, result.cursor)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return [(event.asset_key.path[-1], cast(Any, event).partition) for event in result.asset_events]

    def tick(self) -> dict[str, set[str]]:
        """What is asked for: experiment → assets."""
        result = dg.evaluate_automation_conditions(defs, self.instance, cursor=self._cursor)
        self._cursor = cast(Any, result.cursor)
        assets = [dg.AssetKey(name.split("/")) for name in assets_of()]
        asked: dict[str, set[str]] = {}
        for key in assets:
            for name in result.get_requested_partitions(key):
                asked.setdefault(cast(str, name), set()).add(key.to_user_string())
        assert result.total_requested == sum(map(len, asked.values()))
        return asked

    def make(self, asset: str, version: str = "", *, passes: bool = True, by_hand: bool = False) -> None:
        """A run, begun by the sensor or by hand, that makes the asset of `mine` and checks it."""
        self._made += 1
        key, names = dg.AssetKey(asset.split("/")), CHECKS.get(asset, ())
        specs = [dg.AssetCheckSpec(name, asset=key, blocking=True, partitions_def=experiments) for name in names]

        @dg.asset(key=key, partitions_def=experiments, check_specs=specs)
        def made() -> Iterator[Any]:
            results = [dg.AssetCheckResult(passed=passes, check_name=name) for name in names]
            yield dg.MaterializeResult(data_version=dg.DataVersion(version or f"v{self._made}"), check_results=results)

        tags = {} if by_hand else {"dagster/from_automation_condition": "true"}
        done = dg.materialize([made], partition_key="mine", instance=self.instance, raise_on_error=False, tags=tags)
        assert done.success == passes


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(instance, tmp_path)


@pytest.fixture
def at_rest(watched: Watched) -> Watched:
    """Switched on where all has been made once."""
    watched.look()
    for asset in CHECKS:
        watched.make(asset, asset)
    assert watched.tick() == {}
    return watched


def test_switched_on_it_begins_nothing(watched: Watched) -> None:
    """Neither what was never made, though its files are seen for the first time, nor what was."""
    assert watched.tick() == {}
    watched.look()
    assert watched.tick() == {}
    watched.make("examples", by_hand=True)
    assert watched.tick() == {}


def change(watched: Watched, content: str) -> None:
    watched.data.write_text(content)
    assert watched.look() == [("local_files", "mine")]


def test_changed_data_are_made_checked_and_then_trained_on_and_scored(at_rest: Watched) -> None:
    change(at_rest, "[1]")
    assert at_rest.tick() == {"mine": set(CHECKS)}
    assert at_rest.tick() == {}, "once"
    at_rest.make("examples")
    assert at_rest.tick() == {}, "the splits are not made yet"
    at_rest.make("bfcl_cases", "bfcl_cases")
    at_rest.make("splits")
    assert at_rest.tick() == {"mine": TRAINED}
    assert at_rest.tick() == {}, "once"


def test_a_run_that_was_started_by_hand_begins_no_other(at_rest: Watched) -> None:
    for asset in CHECKS:
        at_rest.make(asset, by_hand=True)
    assert at_rest.tick() == {}


def test_where_a_check_fails_nothing_is_trained(at_rest: Watched) -> None:
    change(at_rest, "[1]")
    at_rest.tick()
    at_rest.make("examples")
    at_rest.make("splits", passes=False)
    assert at_rest.tick() == {}
    assert at_rest.tick() == {}
    change(at_rest, "[2]")
    assert at_rest.tick() == {"mine": set(CHECKS)}
    at_rest.make("examples")
    at_rest.make("splits")
    assert at_rest.tick() == {"mine": TRAINED}


def test_data_that_come_out_the_same_train_nothing(at_rest: Watched) -> None:
    change(at_rest, "[1]")
    assert at_rest.tick() == {"mine": set(CHECKS)}
    for asset in CHECKS:
        at_rest.make(asset, asset)
    assert at_rest.tick() == {}


def test_other_cases_are_answered_by_every_checkpoint(at_rest: Watched) -> None:
    at_rest.make("bfcl_cases")
    scores = {asset for asset in assets_of() if asset.startswith("bfcl/")}
    assert at_rest.tick() == {"mine": {*scores, "champion", "report"}}


def test_a_setting_is_observed_and_begins_nothing(at_rest: Watched) -> None:
    path = at_rest.data.with_name("mine.yaml")
    path.write_text(path.read_text() + "seed: 7\n")
    assert at_rest.look() == [("experiment_file", "mine")]
    assert at_rest.tick() == {}


def test_the_sensor_tells_what_has_changed(watched: Watched) -> None:
    both = [(source, name) for source in ("experiment_file", "local_files") for name in ("mine", "other")]
    assert watched.look() == both
    assert watched.look() == []
    watched.data.touch()
    assert watched.look() == [], "the content counts"
    (watched.data.with_name("broken.yaml")).write_text("sed: 1\n")
    assert watched.look() == [], "what is no experiment stops no other"


@pytest.mark.parametrize("source", sources, ids=lambda source: source.key.path[-1])
def test_a_source_can_be_observed_by_hand(watched: Watched, source: dg.SourceAsset) -> None:
    """And its version is that which the sensor sees."""
    watched.look()
    before = watched.instance.get_latest_data_version_record(source.key, partition_key="mine")
    job = dg.Definitions(assets=[source]).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=watched.instance, partition_key="mine").success
    after = watched.instance.get_latest_data_version_record(source.key, partition_key="mine")
    assert before is not None
    assert after is not None
    assert after.storage_id > before.storage_id
    versions = [extract_data_version_from_entry(record.event_log_entry) for record in (before, after)]
    assert versions[0] == versions[1] is not None
    if source.key == LOCAL_FILES:
        change(watched, "[3]")
        changed = watched.instance.get_latest_data_version_record(source.key, partition_key="mine")
        assert changed is not None
        assert extract_data_version_from_entry(changed.event_log_entry) not in (*versions, None)

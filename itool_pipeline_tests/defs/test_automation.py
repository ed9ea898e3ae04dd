"""The weekly schedule and the sensor on local data, over experiment files of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from itool_pipeline.defs.automation import local_data, weekly

BFCL = "model: {type: smollm2_wheel}\ndata: {type: bfcl_half}\n"


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments"
    folder.mkdir()
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(folder))
    return folder


def write(folder: Path, name: str, content: str) -> None:
    (folder / f"{name}.yaml").write_text(content)


def week() -> list[Any]:
    """What the schedule asks for on one Sunday."""
    when = datetime(2025, 3, 2, 3, 0, tzinfo=UTC)
    return list(cast(Iterable[Any], weekly(dg.build_schedule_context(scheduled_execution_time=when))))


def test_the_schedule_runs_what_says_scheduled(experiments: Path) -> None:
    write(experiments, "always", BFCL + "scheduled: true\n")
    write(experiments, "never", BFCL)
    write(experiments, "child", "extends: always\nseed: 1\n")  # `scheduled` is not inherited
    write(experiments, "also", BFCL + "scheduled: true\n")
    requests = week()
    assert [r.partition_key for r in requests] == ["also", "always"]
    assert [r.run_key for r in requests] == ["also/2025-03-02T03:00:00+00:00", "always/2025-03-02T03:00:00+00:00"]


def test_a_week_without_scheduled_experiments(experiments: Path) -> None:
    write(experiments, "never", BFCL)
    assert week() == []


def test_the_schedule_is_weekly() -> None:
    assert weekly.cron_schedule == "0 3 * * 0"
    assert weekly.job_name == local_data.job_name == "itool"


def test_an_invalid_file_does_not_stop_the_others(experiments: Path) -> None:
    write(experiments, "broken", BFCL + "sheduled: true\n")
    write(experiments, "whole", BFCL + "scheduled: true\n")
    assert [request.partition_key for request in week()] == ["whole"]


def asked() -> list[Any]:
    """What the sensor answers now."""
    with dg.DagsterInstance.ephemeral() as instance:
        return list(cast(Iterable[Any], local_data(dg.build_sensor_context(instance=instance))))


def test_the_sensor_skips_without_local_data(experiments: Path, tmp_path: Path) -> None:
    write(experiments, "wheel", BFCL)
    write(experiments, "hub", "model: {type: smollm2_wheel}\ndata: {type: toolace}\n")
    absent = tmp_path / "absent.json"
    write(experiments, "absent", f"model: {{type: smollm2_wheel}}\ndata: {{type: toolace, path: {absent}}}\n")
    assert asked() == [dg.SkipReason("No experiment has a local data file.")]


def test_the_sensor_asks_again_when_the_content_changes(experiments: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("[]")
    write(experiments, "wheel", BFCL)
    write(experiments, "mine", f"model: {{type: smollm2_wheel}}\ndata: {{type: toolace, path: {data}}}\n")
    (first,) = asked()
    assert isinstance(first, dg.RunRequest)
    assert first.partition_key == "mine"
    (same,) = asked()
    assert same.run_key == first.run_key, "Dagster starts one run for one key"
    data.write_text("[1]")
    (other,) = asked()
    assert other.partition_key == "mine"
    assert other.run_key != first.run_key
    data.write_text("[]")
    (back,) = asked()
    assert back.run_key == first.run_key

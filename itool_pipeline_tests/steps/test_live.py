"""Figures of long work go to Dagster and to a tracker that may fail: each step once, and the last ones too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.files.parts import Parts
from itool_pipeline.steps import live as module
from itool_pipeline.steps.live import live
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.tracking import writers
from itool_pipeline.tracking.trackers import TrackedWork
from itool_pipeline_tests.steps.by_hand import workspace

ASSET = "iteration_1/trees"


@dataclass
class Tracker:
    """In place of a tracker: what it is told of which work."""

    work: TrackedWork
    fails: bool
    steps: list[int] = field(default_factory=list)
    closed: bool = False

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self.fails:
            raise RuntimeError("no such host")
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True


@dataclass
class Scene:
    """A workspace, and who is told."""

    ws: Workspace
    parts: Parts
    observed: list[dict[str, float]]
    said: list[str]
    trackers: list[Tracker] = field(default_factory=list)
    fails: bool = False

    def work(self, *steps: int, **options: Any) -> None:
        with live(self.ws, ASSET, self.parts, **options) as told:
            for step in steps:
                told.metrics("search", step, {"nodes": float(step)})


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    observed, said = list[dict[str, float]](), list[str]()

    def observe(asset: str, figures: Mapping[str, float]) -> None:
        assert asset == ASSET
        observed.append(dict(figures))

    ws = replace(workspace(tmp_path, said, tracking={"type": "tensorboard"}), observe=observe)
    made = Scene(ws, Parts(tmp_path / "parts"), observed, said)

    def make_tracker(config: Any, work: TrackedWork, storage: Path) -> Tracker:
        made.trackers.append(Tracker(work, made.fails))
        return made.trackers[-1]

    monkeypatch.setattr(module, "make_tracker", make_tracker)
    return made


def test_the_tracker_is_told_all_and_dagster_the_first_and_the_rest_at_the_end(scene: Scene) -> None:
    scene.work(1, 2, 4)
    assert scene.observed == [{"step": 1, "search/nodes": 1.0}, {"step": 4, "search/nodes": 3.0}]
    (tracker,) = scene.trackers
    assert (tracker.steps, tracker.closed) == ([1, 2, 4], True)


def test_a_tracker_that_fails_ends_no_work(scene: Scene) -> None:
    scene.fails = True
    scene.work(1, 2)
    assert [figures["step"] for figures in scene.observed] == [1, 2]
    (line,) = scene.said
    assert line.startswith("warning: tensorboard is told nothing more, as it failed: RuntimeError: no such host")


def test_work_that_goes_on_tells_what_is_new_to_the_same_run(scene: Scene) -> None:
    scene.work(1, 2)
    scene.work(1, 2, 3)
    first, second = scene.trackers
    assert (second.steps, second.work.run) == ([3], first.work.run)


def test_work_that_begins_anew_is_another_run(scene: Scene) -> None:
    scene.work(1, 2, begins_anew=True)
    scene.work(1, 2, begins_anew=True)
    first, second = scene.trackers
    assert second.steps == [1, 2]
    assert second.work.run != first.work.run


def test_ops_that_share_a_work_are_told_apart(scene: Scene) -> None:
    scene.work(1, 2, share="share_0")
    scene.work(1, 2, share="share_5")
    scene.work(1, 2, 3, share="share_0")
    assert [tracker.steps for tracker in scene.trackers] == [[1, 2], [1, 2], [3]]
    assert [tracker.work.asset for tracker in scene.trackers] == [f"{ASSET}/share_{i}" for i in (0, 5, 0)]


def test_the_total_sets_how_many_steps_are_observed_together(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "SECONDS_BETWEEN", 0.0)
    seen = list[tuple[int, int]]()
    with live(scene.ws, ASSET, scene.parts) as told:
        told.learning_total(lambda done, total: seen.append((done, total)))(0, 3 * writers.POINTS)
        for step in range(1, 10):
            told.metrics("search", step, {"nodes": 1.0})
    assert seen == [(0, 3 * writers.POINTS)]
    assert [figures["step"] for figures in scene.observed] == [3, 6, 9]

"""Few observations of many steps, and a tracker that may fail."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from itool_pipeline.tracking.writers import POINTS, SECONDS_BETWEEN, Dispensable, Sparse


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seen() -> list[dict[str, float]]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sparse(seen: list[dict[str, float]], clock: Clock) -> Sparse:
    return Sparse(lambda figures: seen.append(dict(figures)), clock)


def test_the_first_step_is_seen_at_once_and_then_means(
    sparse: Sparse, seen: list[dict[str, float]], clock: Clock
) -> None:
    sparse.write("train", 1, {"loss": 5.0})
    assert seen == [{"step": 1, "train/loss": 5.0}]
    for step, loss in ((2, 4.0), (3, 2.0)):
        sparse.write("train", step, {"loss": loss})
    assert len(seen) == 1, "too soon"
    clock.now += SECONDS_BETWEEN
    sparse.write("train", 4, {"loss": 0.0})
    assert seen[1:] == [{"step": 4, "train/loss": 2.0}]


def test_a_validation_is_seen_at_once_with_what_is_held_back(
    sparse: Sparse, seen: list[dict[str, float]], clock: Clock
) -> None:
    sparse.write("validation", 0, {"loss": 9.0})
    sparse.write("train", 1, {"loss": 5.0})
    sparse.write("train", 2, {"loss": 3.0})
    sparse.write("validation", 2, {"loss": 8.0, "accuracy": 0.5})
    sparse.close()
    assert seen == [
        {"step": 0, "validation/loss": 9.0},
        {"step": 1, "validation/loss": 9.0, "train/loss": 5.0},
        {"step": 2, "train/loss": 3.0, "validation/loss": 8.0, "validation/accuracy": 0.5},
    ]


def test_the_last_steps_are_seen_at_the_end(sparse: Sparse, seen: list[dict[str, float]]) -> None:
    sparse.write("search", 1, {"nodes": 5})
    sparse.write("search", 2, {"nodes": 7})
    sparse.write("search", 3, {"nodes": 9})
    sparse.close()
    assert seen == [{"step": 1, "search/nodes": 5}, {"step": 3, "search/nodes": 8}]


@pytest.mark.parametrize("seconds", [0.1, 60.0])
def test_of_any_training_there_are_few(
    sparse: Sparse, seen: list[dict[str, float]], clock: Clock, seconds: float
) -> None:
    total = 10_000
    for step in range(1, total + 1):
        sparse.write("train", step, {"loss": 1.0})
        sparse.total = total
        clock.now += seconds
    sparse.close()
    assert 20 <= len(seen) <= POINTS + 2
    assert seen[-1]["step"] == total


def test_figures_that_some_steps_lack_are_means_over_the_others(sparse: Sparse, seen: list[dict[str, float]]) -> None:
    sparse.write("search", 1, {"nodes": 1})
    sparse.write("search", 2, {"nodes": 1, "best_q": 0.5})
    sparse.write("search", 3, {"nodes": 3})
    sparse.close()
    assert seen[-1] == {"step": 3, "search/nodes": 2, "search/best_q": 0.5}


class Failing:
    def __init__(self) -> None:
        self.asked = 0

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self.asked += 1
        raise ConnectionError("the server is gone")

    def close(self) -> None:
        self.asked += 1


def test_a_tracker_that_fails_is_named_and_not_asked_again() -> None:
    said: list[str] = []
    failing = Failing()
    writer = Dispensable(failing, "mlflow", said.append)
    writer.write("train", 1, {})
    writer.write("train", 2, {})
    writer.close()
    assert failing.asked == 1
    assert said == ["warning: mlflow is told nothing more, as it failed: ConnectionError: the server is gone"]

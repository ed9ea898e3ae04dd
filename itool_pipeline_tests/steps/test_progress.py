"""Progress lines, with a clock that the test turns."""

from __future__ import annotations

import pytest

from itool_pipeline.steps.progress import Timed


class Clock:
    def __init__(self, now: float = 5000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("itool_pipeline.steps.progress.time", clock)
    return clock


def lines(clock: Clock, calls: list[tuple[float, int, int]]) -> list[str]:
    """What is said when each (seconds later, done, total) comes in."""
    said: list[str] = []
    timed = Timed("trees", said.append)
    for wait, done, total in calls:
        clock.now += wait
        timed(done, total)
    return said


def test_a_line_every_ten_seconds_and_one_at_the_end(clock: Clock) -> None:
    # the first call comes after 4 s with 1 done; from then on 1 in 4 s
    calls = [(4.0, done, 8) for done in range(1, 9)]
    assert lines(clock, calls) == [
        "3 of 8 trees in 12 s, about 20 s left",
        "6 of 8 trees in 24 s, about 8 s left",
        "8 of 8 trees in 32 s",
    ]


def test_what_was_there_before_does_not_count_as_fast(clock: Clock) -> None:
    # 90 of 100 were finished already; then one takes 30 s: 9 more are 270 s
    assert lines(clock, [(0.0, 90, 100), (30.0, 91, 100)]) == ["91 of 100 trees in 30 s, about 4 min 30 s left"]


def test_no_estimate_from_the_first_call_alone(clock: Clock) -> None:
    assert lines(clock, [(61.0, 5, 10)]) == ["5 of 10 trees in 1 min 01 s"]


def test_a_short_job_says_one_line(clock: Clock) -> None:
    assert lines(clock, [(0.1, 1, 3), (0.1, 2, 3), (0.1, 3, 3)]) == ["3 of 3 trees in 0 s"]


def test_nothing_to_do_is_said_too(clock: Clock) -> None:
    assert lines(clock, [(0.0, 0, 0)]) == ["0 of 0 trees in 0 s"]


def test_a_minute_begins_at_sixty_rounded_seconds(clock: Clock) -> None:
    assert lines(clock, [(59.4, 1, 1)]) == ["1 of 1 trees in 59 s"]
    assert lines(clock, [(59.6, 1, 1)]) == ["1 of 1 trees in 1 min 00 s"]

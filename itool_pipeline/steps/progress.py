"""Progress for people: what runs, how far it is, and about how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]

SECONDS_BETWEEN = 10.0


class Timed:
    """A `core.types.Progress` that says a line at most every SECONDS_BETWEEN seconds, and one at the end.

    The estimate goes by the work since the first call: what was found finished before it does not count as fast.
    """

    def __init__(self, unit: str, say: Say) -> None:
        self._unit, self._say = unit, say
        self._begin = self._last = time.monotonic()
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = self._first or (done, now)
        if now - self._last < SECONDS_BETWEEN and done < total:
            return
        self._last = now
        self._say(f"{done} of {total} {self._unit} in {_duration(now - self._begin)}{self._left(done, total, now)}")

    def _left(self, done: int, total: int, now: float) -> str:
        first, since = self._first or (done, now)
        if not first < done < total:
            return ""
        return f", about {_duration((now - since) * (total - done) / (done - first))} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

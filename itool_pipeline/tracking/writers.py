"""Whoever is told of figures as they come, and how much of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Protocol

from itool_pipeline.files.locks import Say

SECONDS_BETWEEN = 5.0
POINTS = 50
"""Observations of one training beside those of its validations: Dagster's page of an asset plots the newest 100."""

Observe = Callable[[Mapping[str, float]], None]
"""Called with figures by name, of which one is `step`."""


class MetricWriter(Protocol):
    """Takes figures as they come.

    kind    `train`, `validation`, `answers` or `search`
    step    optimizer steps done, or trees searched; within a kind it only grows
    values  figure → value
    """

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None:
        """Nothing comes after this: what is held back is handed on."""


def named(kind: str, values: Mapping[str, float]) -> dict[str, float]:
    """The figures as all trackers and Dagster call them: `train/loss`."""
    return {f"{kind}/{name}": value for name, value in values.items()}


class Sparse:
    """Few observations of many steps, each with the means over the steps since the one before; what was measured on a
    whole set at once is observed at once. Each also has the newest of all other figures, for a plot breaks where an
    observation lacks its figure.

    total  steps in all, as soon as it is known: it sets how many steps are taken together
    """

    def __init__(self, observe: Observe, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._observe, self._clock = observe, clock
        self._held: list[tuple[str, int, Mapping[str, float]]] = []
        self._known: dict[str, float] = {}
        self._last_step, self._last_time = 0, float("-inf")

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if kind in ("validation", "answers"):
            self._tell(step, named(kind, values))
            return
        self._held.append((kind, step, values))
        far = step - self._last_step >= self.total / POINTS
        if far and self._clock() - self._last_time >= SECONDS_BETWEEN:
            self._tell(step, {})

    def close(self) -> None:
        if self._held:
            self._tell(self._held[-1][1], {})

    def _tell(self, step: int, measured: Mapping[str, float]) -> None:
        columns: dict[str, list[float]] = {}
        for kind, _, values in self._held:
            for name, value in named(kind, values).items():
                columns.setdefault(name, []).append(value)
        if self._held:
            self._held, self._last_step, self._last_time = [], step, self._clock()
        self._known |= {**{name: fmean(column) for name, column in columns.items()}, **measured}
        self._observe({"step": step, **self._known})


class Dispensable:
    """A writer that may fail: people are told so, and the long work goes on without it."""

    def __init__(self, writer: MetricWriter, name: str, say: Say) -> None:
        self._writer: MetricWriter | None = writer
        self._name, self._say = name, say

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda writer: writer.write(kind, step, values))

    def close(self) -> None:
        self._try(lambda writer: writer.close())

    def _try(self, act: Callable[[MetricWriter], None]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except Exception as error:  # each tracker has classes of its own for it
            self._writer = None
            self._say(f"warning: {self._name} is told nothing more, as it failed: {type(error).__name__}: {error}")

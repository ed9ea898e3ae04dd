"""A contender in a process of its own: python -m itool_pipeline_tests.bench.worker MODULE:FUNCTION OPTIONS

It loads what it needs, says that it is ready, and then plays a round whenever it is told to, so that its peak memory is
its own and contenders can be measured alternately. Orders come in on stdin, a line for each round; a JSON object goes
out on what was stdout, a line for each round. Whatever else prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

Figures = dict[str, float]
"""What was measured in a round, by name."""

Options = Mapping[str, Any]
"""What a contender is told in JSON."""


class Finished(Exception):
    """No more rounds are wanted: leaves loops that have no other way out."""


class Turns:
    """The rounds of one contender. The clock runs from `await_turn` to `stop_clock` or `report`."""

    def __init__(self, orders: TextIO, answers: TextIO) -> None:
        self._orders, self._answers = orders, answers
        self._ready = False
        self._start = self._end = (0.0, 0.0)

    def await_turn(self) -> None:
        """Return when a round is wanted. Raises Finished when there are no more. The first call says: ready."""
        if not self._ready:
            self._say({"before_mb": peak_memory_mb()})
            self._ready = True
        if not self._orders.readline().strip():
            raise Finished
        self._start, self._end = _clocks(), (0.0, 0.0)

    def stop_clock(self) -> None:
        """What comes until `report` is not part of the round."""
        self._end = _clocks()

    def report(self, **figures: float) -> None:
        """End the round: its `wall_s`, its `cpu_s` of all threads, `peak_memory_mb`, and `figures`."""
        end = self._end if any(self._end) else _clocks()
        wall, cpu = (after - before for after, before in zip(end, self._start, strict=True))
        _give_back_memory()
        self._say({"wall_s": wall, "cpu_s": cpu, "peak_memory_mb": peak_memory_mb(), **figures})

    def _say(self, figures: Figures) -> None:
        self._answers.write(json.dumps(figures) + "\n")
        self._answers.flush()


Play = Callable[[Options, Turns], None]
"""Plays all rounds of one contender."""


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _give_back_memory() -> None:
    """What this process has freed goes back to the system, so that it does not crowd out whose turn is next."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB of 10^6 bytes, libraries and model included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(target: str, options: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = target.partition(":")
    play: Play = getattr(importlib.import_module(module), function)
    try:
        play(json.loads(options), Turns(sys.stdin, answers))
    except Finished:
        return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

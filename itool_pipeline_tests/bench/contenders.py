"""Contenders are measured alternately: each waits in its own process until it is its turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from itool_pipeline.store.paths import VARIABLE, storage_paths
from itool_pipeline_tests.bench.worker import Figures, Play


class ContenderError(RuntimeError):
    """A contender's process ended by itself; the message has the end of what it printed."""


@dataclass(frozen=True)
class Contender:
    """Who is measured: `play` runs in a new process with `options`, which must have a form in JSON.

    name      as in the rows
    threads   for the process; None for as many as torch takes by itself
    cores     the processor's cores that it may use; None for all
    python    the interpreter, of an environment of its own; None for this one
    checkout  directory of another version of the project, whose `play` of that name it is; None for this one
    """

    name: str
    play: Play
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    cores: frozenset[int] | None = None
    python: str | None = None
    checkout: Path | None = None


class Player:
    """The process of a contender, as a context: leaving it ends the process."""

    def __init__(self, contender: Contender, log: Path) -> None:
        self.contender, self._log = contender, log

    def __enter__(self) -> Player:
        who, environment = self.contender, {**os.environ, VARIABLE: str(storage_paths().root)}
        if who.threads is not None:
            environment["OMP_NUM_THREADS"] = str(who.threads)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        python, target = who.python or sys.executable, f"{who.play.__module__}:{who.play.__name__}"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, "-m", "itool_pipeline_tests.bench.worker", target, json.dumps(dict(who.options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=who.checkout,
            )
        if who.cores is not None:
            os.sched_setaffinity(self._process.pid, who.cores)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Begin a round."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def heard(self) -> Figures:
        """What the process says next: that it is ready, or the figures of the round that ends."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"{self.contender.name} ended: {self._log.read_text()[-2000:]}")
        figures: Figures = json.loads(line)
        return figures

    def round(self) -> Figures:
        """Play one round."""
        self.go()
        return self.heard()


def compare(contenders: Sequence[Contender], *, rounds: int, warm_ups: int, logs: Path) -> dict[str, list[Figures]]:
    """Name → the figures of its rounds. All load first; then they take turns; warm-up rounds are thrown away."""
    found: dict[str, list[Figures]] = {who.name: [] for who in contenders}
    with ExitStack() as stack:
        players = [stack.enter_context(Player(who, logs / f"{who.name}.log")) for who in contenders]
        for player in players:
            player.heard()
        for number in range(warm_ups + rounds):
            for player in players:
                figures = player.round()
                print(f"  {player.contender.name}: {figures['wall_s']:.1f} s", flush=True)
                if number >= warm_ups:
                    found[player.contender.name].append(figures)
    return found


def median_round(rounds: Sequence[Figures]) -> Figures:
    """The round with the median `wall_s`, the faster of two; with the peak memory of all."""
    middle = sorted(rounds, key=lambda figures: figures["wall_s"])[(len(rounds) - 1) // 2]
    return {**middle, "peak_memory_mb": max(figures["peak_memory_mb"] for figures in rounds)}

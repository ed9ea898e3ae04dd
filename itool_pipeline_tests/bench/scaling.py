"""How the cost of the search grows: with the number of trees, and with the number of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

from itool_pipeline_tests.bench.contenders import Contender, Player, compare
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.search import TREES, play_ours, search_row
from itool_pipeline_tests.bench.workload import Workload, bench_folder, stand_in

SIZES = (24, 96, 384)


def scaling_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """One row for each number of trees, all drawn evenly from the same prompts in the order of their lengths."""
    common = {"dtype": machine.dtype, "adapter": str(stand_in(workload)), "trees": max(SIZES)}
    contenders = [Contender(f"{n} trees", play_ours, common | {"every": max(SIZES) // n}) for n in SIZES]
    found = compare(contenders, rounds=1, warm_ups=0, logs=bench_folder() / "logs" / "scaling")
    rows = [search_row(name, figures, machine) for name, (figures,) in found.items()]
    seconds = [figures["wall_s"] / figures["trees"] for (figures,) in found.values()]
    for row, each in zip(rows, seconds, strict=True):
        yield row | {"s_per_tree": each, "times_smallest": each / seconds[0]}


def process_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """One process on one core against two processes, one core each, on halves of the same trees."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    common = {"dtype": machine.dtype, "adapter": str(stand_in(workload)), "trees": TREES}
    halves = common | {"every": 2}
    with ExitStack() as stack:
        alone, *two = (
            stack.enter_context(Player(who, bench_folder() / "logs" / "processes" / f"{who.name}.log"))
            for who in (
                Contender("one", play_ours, common, threads=1, cores=frozenset({first})),
                Contender("half", play_ours, halves, threads=1, cores=frozenset({first})),
                Contender("other half", play_ours, halves | {"first": 1}, threads=1, cores=frozenset({second})),
            )
        )
        for player in (alone, *two):
            player.heard()
        one = alone.round()
        for player in two:
            player.go()
        both = [player.heard() for player in two]
    wall = max(figures["wall_s"] for figures in both)
    together = {name: sum(figures[name] for figures in both) for name in both[0]} | {"wall_s": wall}
    yield search_row("one process, one core", one, machine) | {"times_one": 1.0}
    yield search_row("two processes, one core each", together, machine) | {"times_one": one["wall_s"] / wall}

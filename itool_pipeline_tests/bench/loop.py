"""The search loop alone: with a policy that answers at once, and a judge that does, or BFCL's rules."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence

from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.core.judge import Agreement, Judge, Verdict
from itool_pipeline.core.policy import Fragment, GradeRequest, PolicyInRounds, SampleRequest, ScoreRequest
from itool_pipeline.core.search import search_trees
from itool_pipeline.core.types import Example
from itool_pipeline.judges.rule_judge import RuleJudge
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.workload import Workload

TREES, ROUNDS = 96, 5
_KINDS = 61
"""Fragments that the policy has; a prime, so that steps through them meet all."""


class InstantPolicy(PolicyInRounds):
    """Hands out fragments and grades that are there already, chosen by a request's seed and a candidate's length."""

    def __init__(self) -> None:
        self._fragments = [
            Fragment((i, i + 1, i + 2, i + 3), f"x{i}={i},", (-0.5, -0.1 * (i % 7), -0.2, -0.3), False)
            for i in range(_KINDS)
        ]
        self._grades = [(-0.1 * (i % 5), -1.0, -2.0, -0.1 * (i % 11)) for i in range(_KINDS)]

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[Fragment]]:
        return [[self._fragments[(r.seed + 7 * i) % _KINDS] for i in range(r.count)] for r in requests]

    def grade(self, requests: Sequence[GradeRequest]) -> list[list[tuple[float, ...]]]:
        return [[self._grades[(len(c) + c[-1] if c else 0) % _KINDS] for c in r.candidates] for r in requests]

    def score(self, requests: Sequence[ScoreRequest]) -> list[list[tuple[float, ...]]]:
        raise NotImplementedError("no search asks for scores")


class InstantJudge:
    """Decides by the length of a text."""

    syntax = PYTHON_CALLS

    def verdict(self, example: Example, response: str) -> Verdict:
        return Verdict(len(response) % 2 == 0)

    def agreement(self, example: Example, partial: str) -> Agreement:
        return Agreement((len(partial) % 20) / 20, flawed=False)


def loop_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """Visits (the sum of N over all nodes) and nodes for each second of one thread's processor time."""
    judges: dict[str, Judge] = {"instant judge": InstantJudge(), "rules of BFCL": RuleJudge(BFCL_RULES)}
    problems, policy = workload.problems(TREES), InstantPolicy()
    # What the libraries hold is no garbage of the search, and going through it takes longer than the search does.
    gc.collect()
    gc.freeze()
    for name, judge in judges.items():
        seconds, trees = [], []
        for _ in range(ROUNDS):
            start = time.process_time()
            trees = search_trees(problems, policy, judge, workload.search, seed=0)
            seconds.append(time.process_time() - start)
        middle = statistics.median(seconds)
        visits = sum(node.visits for tree in trees for node in tree.nodes)
        nodes = sum(len(tree.nodes) for tree in trees)
        yield {
            "name": name,
            "visits_per_s": visits / middle,
            "nodes_per_s": nodes / middle,
            "visits": visits,
            "nodes": nodes,
            "trees": TREES,
            "rounds": ROUNDS,
        }

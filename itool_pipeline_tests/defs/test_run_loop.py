"""A run ends whichever step fails and whatever the experiment lacks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.outputs import StepOutputHandle
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.execution.retries import RetryMode
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.config import CHECKPOINTS, MAX_ITERATIONS
from itool_pipeline.definitions import defs
from itool_pipeline.defs.assets import op_name
from itool_pipeline.steps.asset_graph import Shape, assets_of

JOBS = ("itool", "evaluate", "report")
SUBSETS = [
    names for n in range(len(BENCHMARKS) + 1) for names in itertools.combinations([b.name for b in BENCHMARKS], n)
]
SHAPES = [
    *(Shape(count, names, CHECKPOINTS[: 2 + count]) for count in (0, 1, MAX_ITERATIONS) for names in SUBSETS),
    *(Shape(count, SUBSETS[-1], CHECKPOINTS[1 + count : 2 + count]) for count in (0, 1, MAX_ITERATIONS)),
]
"""Few and many iterations, with any benchmarks; and with all of them, but the last checkpoint scored alone."""

Ends = Mapping[str, str]
"""Step → how it ended: made, empty, failed, skipped, abandoned."""


@pytest.fixture(params=JOBS)
def new_plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ExecutionPlan]:
    """Plans of a job; what is skipped is only noted, not made an event of."""
    monkeypatch.setattr(DagsterEvent, "step_skipped_event", lambda context: context)
    job = defs.resolve_job_def(request.param)
    return lambda: create_execution_plan(job)


class Walk:
    """What Dagster's loop in one process does, with ends for the steps that are thrown instead of bodies that run."""

    def __init__(self, plan: ExecutionPlan, has: Callable[[str], bool], fails: Callable[[str], bool]) -> None:
        self._has, self._fails, self._plan = has, fails, plan
        self.ends: dict[str, str] = {}
        self.said: list[str] = []

    def run(self) -> Ends:
        with ActiveExecution(self._plan, RetryMode.DISABLED) as active:
            while not active.is_complete:
                step = active.get_next_step()
                assert step is not None, "nothing can run and nothing is over: this goes on for ever"
                self._end(active, step)
                list(active.plan_events_iterator(self))  # type: ignore[arg-type]
            abandoned = dict.fromkeys(active._abandoned, "abandoned")
        assert sum(int(line.partition(" steps are not run: ")[0]) for line in self.said) == len(abandoned)
        return self.ends | abandoned

    def for_step(self, step: ExecutionStep) -> None:
        """In place of the context of a step, which is asked for when it is skipped."""
        self.ends[step.key] = "skipped"

    @property
    def log(self) -> Any:
        return SimpleNamespace(info=self.said.append)

    def _end(self, active: ActiveExecution, step: ExecutionStep) -> None:
        if self._fails(step.key):
            active.mark_failed(step.key)
            self.ends[step.key] = "failed"
            return
        made = self._has(step.key)
        for out in step.step_outputs:
            keys = ["a", "b"] if out.is_dynamic else [None]
            for key in keys if made else []:
                active.mark_step_produced_output(StepOutputHandle(step.key, out.name, key))
                if key:
                    gathered = active._gathering_dynamic_outputs[step.key][out.name]
                    assert gathered is not None
                    gathered.append(key)
        active.mark_success(step.key)
        self.ends[step.key] = "made" if made else "empty"


def of_shape(shape: Shape) -> Callable[[str], bool]:
    """Whether an experiment of this shape has the asset that the step makes, checks or is a part of."""
    everything = sorted(map(op_name, assets_of()), key=len, reverse=True)
    own = set(map(op_name, assets_of(shape)))

    def has(step: str) -> bool:
        name = step.partition(".")[0]
        return next(asset for asset in everything if name.endswith(asset)) in own

    return has


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_run_ends_whichever_step_fails_first(new_plan: Callable[[], ExecutionPlan], shape: Shape) -> None:
    has = of_shape(shape)
    whole = Walk(new_plan(), has, lambda _: False).run()
    assert "failed" not in whole.values()
    assert "abandoned" not in whole.values()
    for first in [key for key, end in whole.items() if end in ("made", "empty")]:
        ends = Walk(new_plan(), has, first.__eq__).run()
        assert ends[first] == "failed"
        assert list(ends.values()).count("failed") == 1


@pytest.mark.parametrize("seed", range(40))
def test_the_run_ends_whichever_steps_fail_and_whichever_say_nothing(
    new_plan: Callable[[], ExecutionPlan], seed: int
) -> None:
    throw = random.Random(seed)
    silent, failing = throw.random(), throw.random() / 2
    ends = Walk(new_plan(), lambda _: throw.random() > silent, lambda _: throw.random() < failing).run()
    assert set(ends.values()) <= {"made", "empty", "failed", "skipped", "abandoned"}


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[list[int], str]]:
    """Steps in their order, each with those before it that it needs, and how it ends."""
    count = draw(st.integers(2, 8))
    ends = st.sampled_from(["made", "empty", "failed"])
    return [
        (draw(st.lists(st.integers(0, i - 1), unique=True, max_size=4)) if i else [], draw(ends)) for i in range(count)
    ]


def job_of(steps: list[tuple[list[int], str]]) -> Any:
    """A job of real ops."""
    made: list[Any] = []

    def op_of(index: int, needs: list[int], end: str) -> Any:
        inputs = {f"in{n}": dg.In(dg.Nothing) for n in needs}

        @dg.op(name=f"s{index}", ins=inputs, out=dg.Out(dg.Nothing, is_required=False))
        def body() -> Iterator[dg.Output[None]]:
            if end == "failed":
                raise RuntimeError("as thrown")
            if end == "made":
                yield dg.Output(None)

        return body

    @dg.graph
    def thrown() -> None:
        for index, (needs, end) in enumerate(steps):
            made.append(op_of(index, needs, end)(**{f"in{n}": made[n] for n in needs}))

    return thrown.to_job()


def by_rule(steps: list[tuple[list[int], str]]) -> list[str]:
    """A step runs when all that it needs was made; it is skipped when something it needs is empty or skipped."""
    ends: list[str] = []
    for needs, end in steps:
        before = {ends[n] for n in needs}
        ends.append("skipped" if before & {"empty", "skipped"} else "abandoned" if before - {"made"} else end)
    return ends


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_dagsters_own_loop_ends_on_any_graph(steps: list[tuple[list[int], str]]) -> None:
    result = job_of(steps).execute_in_process(raise_on_error=False)
    events = {f"s{i}": {e.event_type_value for e in result.events_for_node(f"s{i}")} for i in range(len(steps))}
    found = [
        "failed" if "STEP_FAILURE" in e else "skipped" if "STEP_SKIPPED" in e else "abandoned" if not e
        else "made" if "STEP_OUTPUT" in e else "empty"
        for e in events.values()
    ]  # fmt: skip
    assert found == by_rule(steps)

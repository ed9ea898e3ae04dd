"""Two mends of Dagster's own loop over the steps of a run in one process, which its pinned version needs.

- A step with one input that was skipped and another that came to nothing after a failure is to be skipped, but the
  loop looks for steps to skip before it passes over those after a failure, and not again: when nothing else is left,
  it goes round for ever (dagster-io/dagster#33661). An experiment that lacks a benchmark has many such steps.
- While it waits for a place in a pool it neither rests nor sees that it is asked to stop.

`ActiveExecution` is the state of one such run, whoever starts it: the command line, the UI, a job or a notebook.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.active import ActiveExecution

REST_SECONDS = 0.2
"""Between two looks at whether a place is free, or the time of a retry has come."""

_pass_over = ActiveExecution.plan_events_iterator


def _pass_over_all(self: ActiveExecution, job_context: Any) -> Iterator[DagsterEvent]:
    """Skip and abandon by turns, until neither is left to do."""
    yield from _pass_over(self, job_context)
    while self._pending_skip:
        yield from _pass_over(self, job_context)


def _rest(self: ActiveExecution) -> None:
    """Wait a moment. Raises DagsterExecutionInterruptedError when the run was asked to stop meanwhile."""
    time.sleep(REST_SECONDS)
    if self.check_for_interrupts():
        self.mark_interrupted()
        raise DagsterExecutionInterruptedError("The run was asked to stop while it waited for a place in a pool.")


def mend_run_loop() -> None:
    """Put the mends in place. Doing it twice changes nothing."""
    ActiveExecution.plan_events_iterator = _pass_over_all  # type: ignore[method-assign]
    ActiveExecution.sleep_til_ready = _rest  # type: ignore[method-assign]

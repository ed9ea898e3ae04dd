"""Mends of Dagster's own loop over the steps of a run, and of its last event, which its pinned version needs.

- A step with one input that was skipped and another that came to nothing after a failure is to be skipped, but the
  loop looks for steps to skip before it passes over those after a failure, and not again: when nothing else is left,
  it goes round for ever (dagster-io/dagster#33661). An experiment that lacks a benchmark has many such steps.
- Of each step that a failure keeps from running it writes a line of its own, as an error, after the one that tells why.
- While it waits for a place in a pool it neither rests nor sees that it is asked to stop.
- The last event of a run that failed names the steps that failed, and not why.

`ActiveExecution` is the state of one such run, whoever starts it: the command line, the UI, a job or a notebook.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, RunFailureReason
from dagster._core.execution.plan.active import ActiveExecution

from itool_pipeline.defs.errors import asset_of_step, words_of

REST_SECONDS = 0.2
"""Between two looks at whether a place is free, or the time of a retry has come."""

_run_failure = DagsterEvent.job_failure


def _pass_over_all(self: ActiveExecution, job_context: Any) -> Iterator[DagsterEvent]:
    """Skip and abandon by turns, until neither is left to do; one line for what is abandoned at once."""
    kept_from_running = 0
    while True:
        for step in (skipped := self.get_steps_to_skip()):
            yield DagsterEvent.step_skipped_event(job_context.for_step(step))
            self.mark_skipped(step.key)
        for step in (abandoned := self.get_steps_to_abandon()):
            self.mark_abandoned(step.key)
        kept_from_running += len(abandoned)
        if not skipped and not abandoned:
            break
    if kept_from_running:
        job_context.log.info(f"{kept_from_running} steps are not run: what they need has failed")


def _rest(self: ActiveExecution) -> None:
    """Wait a moment. Raises DagsterExecutionInterruptedError when the run was asked to stop meanwhile."""
    time.sleep(REST_SECONDS)
    if self.check_for_interrupts():
        self.mark_interrupted()
        raise DagsterExecutionInterruptedError("The run was asked to stop while it waited for a place in a pool.")


def _run_failure_in_words(
    context: Any,
    context_msg: str,
    failure_reason: RunFailureReason,
    error_info: Any = None,
    first_step_failure_event: DagsterEvent | None = None,
) -> DagsterEvent:
    """The event, whose message ends with the cause and the remedy."""
    first = first_step_failure_event
    if first is not None and first.is_step_failure and first.step_failure_data.error is not None:
        context_msg += f" {asset_of_step(first.step_key)}: {words_of(first.step_failure_data.error)}"
    elif error_info is not None and failure_reason == RunFailureReason.RUN_EXCEPTION:
        context_msg = words_of(error_info)
    return _run_failure(context, context_msg, failure_reason, error_info, first)


def mend_run_loop() -> None:
    """Put the mends in place. Doing it twice changes nothing."""
    ActiveExecution.plan_events_iterator = _pass_over_all  # type: ignore[method-assign]
    ActiveExecution.sleep_til_ready = _rest  # type: ignore[method-assign]
    DagsterEvent.job_failure = staticmethod(_run_failure_in_words)  # type: ignore[method-assign, assignment]

"""The terminal's log: one short line for each thing a person wants to know."""

import atexit
import logging
import sys
import time
from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.execution import context_creation_job
from dagster._core.execution.plan.objects import ErrorSource

from itool_pipeline.defs.errors import asset_of_step, failed_after, is_explained, stopped_after, words_of

_ABSENT_CHECKS = logging.getLogger("dagster._core.execution.plan.active")
"""Dagster warns here of a blocking check that said nothing, once for each step after it. Where an experiment lacks the
checked asset, its check has nothing to say."""


def _says_something(record: logging.LogRecord) -> bool:
    return "emitted no result" not in record.getMessage()


_ADDING_A_LINE = {("job", "execute"), ("asset", "materialize")}
"""Dagster's own commands that, as `dg launch`, end with a line of theirs, which says no more than that the run failed.
The cause is said again after that."""


class _Short(logging.Formatter):
    """`08:15:02  iteration_1__trees  24 of 30 rounds …`; the trace of a mistake; and last, why the run failed."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()
        self._causes: dict[str, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {}) or {}
        event: dg.DagsterEvent | None = meta.get("dagster_event")
        text = meta.get("orig_message") or record.getMessage()
        if event is not None and event.is_step_failure:
            text = self._step_failure(event, asset_of_step(meta.get("step_key")))
        if event is not None and event.is_job_failure:
            return self._run_failure(event)
        return f"{self.formatTime(record, '%H:%M:%S')}  {asset_of_step(meta.get('step_key')):<28}  {text}"

    def _step_failure(self, event: dg.DagsterEvent, step: str) -> str:
        data = event.step_failure_data
        if data.error is None or data.error_source == ErrorSource.INTERRUPT:
            return "stopped"
        self._causes[step] = words_of(data.error)
        return f"failed: {self._causes[step]}" if is_explained(data.error) else f"failed\n{data.error.to_string()}"

    def _run_failure(self, event: dg.DagsterEvent) -> str:
        data, seconds, trace = event.job_failure_data, time.monotonic() - self._start, ""
        if data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION:
            return stopped_after(seconds)
        if not self._causes and data.first_step_failure_event is not None:  # logged in another process
            first = data.first_step_failure_event
            self._step_failure(first, asset_of_step(first.step_key))
        elif not self._causes and data.error is not None:
            self._causes["run"] = words_of(data.error)
            trace = "" if is_explained(data.error) else data.error.to_string()
        told = failed_after(seconds, self._causes)
        if tuple(sys.argv[1:3]) in _ADDING_A_LINE or sys.argv[1:2] == ["launch"]:
            atexit.register(print, told, file=sys.stderr)
        return f"{trace}{told}"


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="DEBUG shows Dagster's own events too")})
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """What `dagster job execute` and the command line print."""
    logger = logging.Logger("itool")
    handler = logging.StreamHandler()
    handler.setFormatter(_Short())
    logger.addHandler(handler)
    _ABSENT_CHECKS.addFilter(_says_something)
    logger.setLevel(init_context.logger_config["log_level"])
    return logger


def _by_default(instance: dg.DagsterInstance | None) -> Sequence[tuple[dg.LoggerDefinition, Mapping[str, object]]]:
    return [(console, {"log_level": "INFO"})]


def make_it_the_default() -> None:
    """Let runs whose config names no logger, as of Dagster's own command line, have this one. Twice changes nothing."""
    context_creation_job.default_system_loggers = _by_default  # type: ignore[attr-defined]

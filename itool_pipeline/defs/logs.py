"""The terminal's log: one short line for each thing a person wants to know."""

import logging
from typing import Any

import dagster as dg


def _worth_showing(record: logging.LogRecord) -> bool:
    """Steps that an experiment does not have are skipped; a line for each would hide the others."""
    meta = getattr(record, "dagster_meta", {}) or {}
    return not str(meta.get("orig_message", "")).startswith("Skipping step ")


_ABSENT_CHECKS = logging.getLogger("dagster._core.execution.plan.active")
"""Dagster warns here of a blocking check that said nothing, once for each step after it. Where an experiment lacks the
checked asset, its check has nothing to say."""


def _says_something(record: logging.LogRecord) -> bool:
    return "emitted no result" not in record.getMessage()


class _Short(logging.Formatter):
    """`08:15:02  iteration_1__trees  24 of 30 rounds …`, and the trace of an error."""

    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {}) or {}
        text = meta.get("orig_message") or record.getMessage()
        event = meta.get("dagster_event")
        error = getattr(getattr(event, "event_specific_data", None), "error", None)
        trace = f"\n{error.to_string()}" if error is not None else ""
        return f"{self.formatTime(record, '%H:%M:%S')}  {_step(meta):<28}  {text}{trace}"


def _step(meta: dict[str, Any]) -> str:
    """`make_iteration_1__trees.iteration_1_search_shard[shard_00000]` → `iteration_1/trees[shard_00000]`."""
    asset, _, rest = (meta.get("step_key") or "run").partition(".")
    _, bracket, shard = rest.partition("[")
    return f"{asset.removeprefix('make_').replace('__', '/')}{bracket}{shard}"


@dg.logger({"log_level": dg.Field(str, default_value="INFO", description="DEBUG shows Dagster's own events too")})
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """What `dagster job execute` and the command line print."""
    logger = logging.Logger("itool")
    handler = logging.StreamHandler()
    handler.setFormatter(_Short())
    handler.addFilter(_worth_showing)
    logger.addHandler(handler)
    _ABSENT_CHECKS.addFilter(_says_something)
    logger.setLevel(init_context.logger_config["log_level"])
    return logger

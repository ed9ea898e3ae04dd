"""What the terminal is spared."""

from __future__ import annotations

import logging

import dagster as dg
import pytest

from itool_pipeline.defs.logs import console


def test_a_check_that_an_experiment_lacks_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Dagster's warning comes from this logger in the pinned version."""
    console(dg.build_init_logger_context(logger_config={"log_level": "INFO"}))
    dagster = logging.getLogger("dagster._core.execution.plan.active")
    with caplog.at_level(logging.WARNING):
        dagster.warning("Blocking asset check 'a:b' emitted no result in step 'c'; downstream step 'd' will proceed")
        dagster.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]

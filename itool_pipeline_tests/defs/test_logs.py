"""What the terminal is spared, and what it says of steps that could say nothing."""

from __future__ import annotations

import logging

import dagster as dg
import pytest
from dagster_shared.error import SerializableErrorInfo

from itool_pipeline.defs.errors import words_of
from itool_pipeline.defs.logs import console


def test_a_check_that_an_experiment_lacks_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Dagster's warning comes from this logger in the pinned version."""
    console(dg.build_init_logger_context(logger_config={"log_level": "INFO"}))
    dagster = logging.getLogger("dagster._core.execution.plan.active")
    with caplog.at_level(logging.WARNING):
        dagster.warning("Blocking asset check 'a:b' emitted no result in step 'c'; downstream step 'd' will proceed")
        dagster.warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ChildProcessCrashException", "dagster._core.executor.child_process_executor.ChildProcessCrashException\n"),
        (
            None,
            "Step a failed health check: Discovered failed Ray job b. Message: exit code -9, logs:\nx.\n",
        ),
    ],
    ids=["multiprocess", "ray"],
)
def test_a_worker_that_is_gone_is_no_mistake_in_the_program(kind: str | None, message: str) -> None:
    told = words_of(SerializableErrorInfo(message, [], kind))
    assert told.startswith(
        "The process of this step ended and left no error. It was killed, perhaps for want of memory"
    )
    assert len(told.splitlines()) == 1
    ours = words_of(SerializableErrorInfo("KeyError: 'ours'\n", [], "KeyError"))
    assert ours.startswith("KeyError: 'ours'. This is a mistake in the program")

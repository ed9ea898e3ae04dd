"""What the command `run` makes of the checks that did not pass."""

from __future__ import annotations

import dagster as dg
import pytest

from itool_pipeline.defs.checks import IN_WORDS, did_not_pass

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def evaluation(severity: dg.AssetCheckSeverity, passed: bool) -> dg.AssetCheckEvaluation:
    metadata = {} if passed else {IN_WORDS: dg.MetadataValue.text(f"{severity.value}: lower the rate")}
    return dg.AssetCheckEvaluation(dg.AssetKey("scores"), "not_worse", passed, metadata, severity=severity)


@pytest.mark.parametrize(
    ("evaluations", "said", "failed"),
    [
        ([], [], False),
        ([evaluation(ERROR, True), evaluation(WARN, True)], [], False),
        ([evaluation(ERROR, True), evaluation(WARN, False)], ["WARN: lower the rate"], False),
        ([evaluation(WARN, False), evaluation(ERROR, False)], ["WARN: lower the rate", "ERROR: lower the rate"], True),
    ],
)
def test_all_are_said_and_a_warning_fails_no_run(
    evaluations: list[dg.AssetCheckEvaluation], said: list[str], failed: bool
) -> None:
    assert did_not_pass(evaluations) == (said, failed)

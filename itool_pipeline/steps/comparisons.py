"""How checkpoints compare on the same cases: rows of the table `comparisons`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from itool_pipeline.statistics import mcnemar_exact, paired_bootstrap
from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.table_files import read_table_rows


def compare_checkpoints(ws: Workspace, benchmark: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every checkpoint with every one before it. Raises StepError for two that were not scored on the same cases."""
    verdicts = {name: _verdicts(ws, benchmark, name) for name in names}
    pairs = itertools.combinations(names, 2)
    return [_comparison(benchmark, first, second, verdicts, ws.experiment.seed) for first, second in pairs]


def _comparison(
    benchmark: str, first: str, second: str, verdicts: Mapping[str, Mapping[str, bool]], seed: int
) -> dict[str, Any]:
    before, after = verdicts[first], verdicts[second]
    if before.keys() != after.keys():
        raise StepError(f"{first} and {second} were not scored on the same cases; materialize {benchmark}/* again")
    one, other = list(before.values()), [after[key] for key in before]
    gained = sum(b and not a for a, b in zip(one, other, strict=True))
    lost = sum(a and not b for a, b in zip(one, other, strict=True))
    difference, low, high = paired_bootstrap(one, other, seed=seed)
    return {
        "benchmark": benchmark,
        "first_checkpoint": first,
        "second_checkpoint": second,
        "cases": len(one),
        "first_correct": sum(one),
        "second_correct": sum(other),
        "gained": gained,
        "lost": lost,
        "difference": difference,
        "low": low,
        "high": high,
        "p_value": mcnemar_exact(gained, lost),
    }


def _verdicts(ws: Workspace, benchmark: str, checkpoint: str) -> dict[str, bool]:
    file = ws.input(f"{benchmark}/{checkpoint}").file(CASES_FILE)
    return {row["case_id"]: row["correct"] for row in read_table_rows(file, ["case_id", "correct"])}

"""Comparisons of checkpoints, from artifacts written by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.steps.artifact_files import CASES_FILE
from itool_pipeline.steps.comparisons import compare_checkpoints
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline_tests.steps.by_hand import put, workspace


def put_verdicts(ws: Workspace, checkpoint: str, verdicts: dict[str, bool], benchmark: str = "bfcl") -> None:
    rows = pa.Table.from_pylist([{"case_id": key, "correct": correct} for key, correct in verdicts.items()])
    put(ws, f"{benchmark}/{checkpoint}", lambda directory: pq.write_table(rows, directory / CASES_FILE))


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, iterations=1)


def test_each_checkpoint_is_compared_with_every_one_before(ws: Workspace) -> None:
    put_verdicts(ws, "base", {"a": False, "b": False, "c": True, "d": True, "e": False, "f": False})
    put_verdicts(ws, "warmup", {"f": True, "a": True, "b": True, "c": True, "d": False, "e": True})
    put_verdicts(ws, "iteration_1", {"a": True, "b": True, "c": True, "d": True, "e": True, "f": True})
    rows = compare_checkpoints(ws, "bfcl", ["base", "warmup", "iteration_1"])
    shown = [
        (r["first_checkpoint"], r["second_checkpoint"], r["first_correct"], r["second_correct"], r["gained"], r["lost"])
        for r in rows
    ]
    assert shown == [
        ("base", "warmup", 2, 5, 4, 1),
        ("base", "iteration_1", 2, 6, 4, 0),
        ("warmup", "iteration_1", 5, 6, 1, 0),
    ]
    # 2 (1 + 5) / 32, 2 · 1 / 16, 2 · 1 / 2
    assert [r["p_value"] for r in rows] == pytest.approx([0.375, 0.125, 1.0])
    assert [r["difference"] for r in rows] == pytest.approx([3 / 6, 4 / 6, 1 / 6])
    assert all(r["low"] <= r["difference"] <= r["high"] for r in rows)


def test_a_single_pair_is_compared_once(ws: Workspace) -> None:
    for name in ("base", "warmup"):
        put_verdicts(ws, name, {"a": True})
    assert len(compare_checkpoints(ws, "bfcl", ["base", "warmup"])) == 1


def test_checkpoints_on_different_cases_are_not_compared(ws: Workspace) -> None:
    put_verdicts(ws, "base", {"a": True})
    put_verdicts(ws, "warmup", {"b": True})
    with pytest.raises(StepError, match="base and warmup were not scored on the same cases"):
        compare_checkpoints(ws, "bfcl", ["base", "warmup"])


def test_each_benchmark_is_compared_on_its_own_cases(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=1, evaluation={"api_bank": {}})
    for name in ("base", "warmup"):
        put_verdicts(ws, name, {"a": True})
        put_verdicts(ws, name, {"x": name == "warmup", "y": False}, "api_bank")
    (row,) = compare_checkpoints(ws, "api_bank", ["base", "warmup"])
    found = [row[name] for name in ("benchmark", "cases", "first_correct", "second_correct", "gained", "lost")]
    assert found == ["api_bank", 2, 0, 1, 1, 0]
    put_verdicts(ws, "iteration_1", {"x": True}, "api_bank")
    with pytest.raises(StepError, match=r"materialize api_bank/\* again"):
        compare_checkpoints(ws, "api_bank", ["warmup", "iteration_1"])

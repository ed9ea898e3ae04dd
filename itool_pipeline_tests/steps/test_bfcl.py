"""What the scoring on BFCL makes of a sample, and which types of error it reads from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import CHECKER_RAISED, DECODER_REFUSED, CaseVerdict
from itool_pipeline.core.types import Example
from itool_pipeline.judges.mistakes import ErrorType
from itool_pipeline.steps import bfcl
from itool_pipeline.steps.bfcl_multi_turn import multi_turn_cases
from itool_pipeline_tests.core.fake_policy import call_problem
from itool_pipeline_tests.steps.by_hand import example, put, workspace, write_held_out

LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance")


class Checker:
    """Right is what is said to live_simple."""

    def __init__(self, wheel: Path) -> None:
        pass

    def check(self, case: Example, output: str) -> CaseVerdict:
        right = case.category == "live_simple"
        return CaseVerdict(right, "" if right else "ast_decoder:decoder_failed")


def test_a_sampled_live_category_counts_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = workspace(tmp_path, evaluation={"bfcl": {"categories": LIVE, "cases_per_category": 1}})
    pool = [replace(example(f"c{i}"), category="live_simple") for i in range(4)]
    pool += [replace(example(category), category=category) for category in LIVE[1:]]
    put(ws, "base_model", lambda directory: (directory / "weights").write_text("x"))
    put(ws, "examples", lambda directory: write_held_out(directory, pool))

    def said(ws: Any, checkpoint: str, cases: list[Example], *rest: Any) -> Mapping[str, str]:
        return {case.id: "No." for case in cases}

    for name, fake in {
        "answers": said,
        "fetch": lambda wheel, downloads: downloads,
        "OfficialChecker": Checker,
    }.items():
        monkeypatch.setattr(bfcl, name, fake)
    artifact = bfcl.bfcl(ws, "base").artifact
    assert artifact.manifest.metadata["cases"] == 6
    parts = {(r["rule"], r["part"]): r["accuracy"] for r in pq.read_table(artifact.file(bfcl.AGGREGATES)).to_pylist()}
    # Four of nine, and without irrelevance and relevance of seven; of the six that were asked it would be one.
    assert parts["v3", "live"] == pytest.approx(4 / 9)
    assert parts["v4", "live"] == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    ("language", "official", "expected"),
    [
        ("python", "ast_decoder:decoder_failed", ErrorType.TOOLS_COUNT),
        ("python", DECODER_REFUSED, ErrorType.CODE_SYNTAX),
        ("python", CHECKER_RAISED, ErrorType.OTHER),
        ("java", "simple_function_checker:wrong_func_name", ErrorType.TOOL_NAME),
    ],
)
def test_types_are_ours_unless_only_the_official_error_tells(language: str, official: str, expected: ErrorType) -> None:
    case = replace(call_problem("asked").example, language=language)
    output = "I cannot." if official.endswith("decoder_failed") else "[f(a=open('x'))]"
    mistake = bfcl._mistake(case, CaseVerdict(False, official, "why"), output)
    assert mistake is not None
    assert mistake.type == expected


def test_where_we_find_no_mistake_the_case_has_no_type() -> None:
    """So that the check `errors_agree` names it."""
    case = call_problem("asked").example
    assert bfcl._mistake(case, CaseVerdict(False, "value_error:string", "why"), case.response) is None


def test_conversations_are_limited_as_cases_are_unless_told_otherwise(tmp_path: Path, downloads_dir: Path) -> None:
    def drawn(**limits: int) -> int:
        ws = workspace(tmp_path / str(limits), evaluation={"bfcl": {"categories": ("multi_turn_base",), **limits}})
        ws.paths.root.mkdir(parents=True)
        ws.paths.downloads.symlink_to(downloads_dir.resolve())
        return len(multi_turn_cases(ws))

    assert drawn(cases_per_category=4) == 4
    assert drawn(cases_per_category=4, conversations_per_category=7) == 7
    assert drawn(cases_per_category=4, conversations_per_category=200) == 200
    assert drawn() == 200

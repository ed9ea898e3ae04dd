"""From API-Bank's dialogues written by hand to rows in the database and a page, with a tiny random model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from itool_pipeline.benchmarks.types import Aggregate, Decided, Decision
from itool_pipeline.config import HubModel
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import prepare_base_model
from itool_pipeline.data.wheels import FetchError
from itool_pipeline.judges.mistakes import ErrorType
from itool_pipeline.steps import checks
from itool_pipeline.steps.artifact_files import QUARANTINE_FILE
from itool_pipeline.steps.asset_graph import BY_NAME, checkpoints
from itool_pipeline.steps.cases import benchmark_cases, drawn_cases, read_pool
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.records import LeftToTheRun
from itool_pipeline.steps.report import report
from itool_pipeline.steps.scoring import Scored, score_checkpoint, write_rows
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline_tests.steps.by_hand import database_of, example, put, workspace, write_train
from itool_pipeline_tests.store.by_hand import ask

BY_HAND = Path(__file__).parents[1] / "benchmarks" / "api_bank" / "by_hand"
API_BANK, BFCL = BY_NAME["api_bank"], BY_NAME["bfcl"]


def asking(root: Path, model: Path, **asked: Any) -> Workspace:
    """An experiment on the dialogues written by hand, with its base model and its training examples."""
    settings = {"path": str(BY_HAND), "max_new_tokens": 8, "batch_size": 5, **asked}
    hub = {"type": "hub", "name": str(model)}
    ws = workspace(root, model=hub, compute={"device": "cpu"}, iterations=0, evaluation={"api_bank": settings})
    put(ws, "base_model", lambda directory: prepare_base_model(HubModel(**hub), root, directory))
    put(ws, "examples", lambda d: write_train(d, [example("t1"), example("t2")]))
    return ws


@pytest.fixture
def ws(tmp_path: Path, tiny_model_dir: Path) -> Workspace:
    return asking(tmp_path, tiny_model_dir)


def test_the_cases_and_what_is_quarantined(ws: Workspace) -> None:
    artifact = benchmark_cases(ws, API_BANK).artifact
    metadata = artifact.manifest.metadata
    assert {k: metadata[k] for k in ("cases", "groups", "quarantined")} == {
        "cases": 12,
        "groups": 5,
        "quarantined": 1,
    }
    (quarantined,) = pq.read_table(artifact.file(QUARANTINE_FILE)).to_pylist()
    assert quarantined["position"] == "level-1-given-desc/CancelTimedSwitch-level-1-1.jsonl:2"
    assert ask(database_of(ws), "SELECT position, reason FROM quarantine") == [
        (quarantined["position"], quarantined["reason"])
    ]
    assert "device_id" in metadata["some_quarantined"]["markdown"]
    assert read_pool(ws, API_BANK).sizes() == {"level_1": 6, "level_2": 6}
    assert checks.no_case_is_trained_on(ws, API_BANK).problems == []


def test_a_copy_that_is_not_there(tmp_path: Path, tiny_model_dir: Path) -> None:
    ws = asking(tmp_path, tiny_model_dir, path=str(tmp_path / "nowhere"))
    with pytest.raises(FetchError, match=r"evaluation\.api_bank\.path"):
        benchmark_cases(ws, API_BANK)


@pytest.mark.slow
def test_the_tiny_model_is_scored(ws: Workspace) -> None:
    benchmark_cases(ws, API_BANK)
    made = score_checkpoint(ws, API_BANK, "base")
    assert (made.artifact.manifest.metadata["cases"], made.artifact.manifest.metadata["left_out"]) == (12, 0)
    rows = ask(
        database_of(ws),
        "SELECT category, count(*), bool_or(correct), count(mistake) FROM cases GROUP BY ALL ORDER BY 1",
    )
    assert rows == [("level_1", 6, False, 6), ("level_2", 6, False, 6)]
    kinds = ask(database_of(ws), "SELECT DISTINCT mistake, error_type, checkpoint, benchmark FROM cases")
    assert {kind for kind, *_ in kinds} <= set(ErrorType)
    assert {(checkpoint, benchmark) for *_, checkpoint, benchmark in kinds} == {("base", "api_bank")}
    assert checks.scores_cover_every_case(ws, "api_bank/base") == checks.Finding([], {"cases": 12})
    assert score_checkpoint(ws, API_BANK, "base").reused


def gold(wrong: str) -> Any:
    """In place of a model: the gold answers, but for one case."""

    def answered(self: ModelExaminee, examples: list[Example]) -> dict[str, str]:
        return {e.id: "[GetToday()]" if e.id == wrong else e.response for e in examples}

    return answered


def scored(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setattr(ModelExaminee, "answer_each", gold(wrong="level_2/QueryStock-level-3-1/3"))
    benchmark_cases(ws, API_BANK)
    for name in checkpoints(0):
        if name != "base":
            put(ws, checkpoints()[name], lambda _: None)
        score_checkpoint(ws, API_BANK, name)
    columns = "category, correct, total, round(low, 4), round(high, 4)"
    return ask(database_of(ws), f"SELECT {columns} FROM leaderboard_categories WHERE checkpoint = 'base' ORDER BY 1")


def test_scores_by_level_with_intervals(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    # Wilson 95% of 6 of 6, of 5 of 6 and of 11 of 12, from published tables
    assert scored(ws, monkeypatch) == [
        ("level_1", 6, 6, 0.6097, 1.0),
        ("level_2", 5, 6, 0.4365, 0.9699),
    ]
    columns = "part, correct, total, round(low, 4), round(high, 4)"
    exact = "FROM aggregates WHERE checkpoint = 'base' AND rule = 'exact'"
    assert ask(database_of(ws), f"SELECT {columns} {exact} ORDER BY part") == [
        ("level_1", 6, 6, 0.6097, 1.0),
        ("level_2", 5, 6, 0.4365, 0.9699),
        ("overall", 11, 12, 0.6461, 0.9851),
    ]
    columns = "case_id, error_type, mistake, function, expected, got"
    assert ask(database_of(ws), f"SELECT {columns} FROM cases WHERE checkpoint = 'base' AND NOT correct") == [
        ("level_2/QueryStock-level-3-1/3", "api", "tool_name", "QueryStock", '"QueryStock"', '"GetToday"')
    ]


def test_levels_and_limits(tmp_path: Path, tiny_model_dir: Path) -> None:
    one = asking(tmp_path, tiny_model_dir, levels=("level_2",), cases_per_level=2)
    benchmark_cases(one, API_BANK)
    drawn = drawn_cases(one, API_BANK, read_pool(one, API_BANK))
    assert [e.category for e in drawn.cases] == ["level_2"] * 2
    short = asking(tmp_path / "short", tiny_model_dir, max_prompt_tokens=3)
    benchmark_cases(short, API_BANK)
    with pytest.raises(StepError, match=r"evaluation\.api_bank leaves no case"):
        drawn_cases(short, API_BANK, read_pool(short, API_BANK))


def bfcl_scores(step: Step, name: str) -> dict[str, Any]:
    """One of four cases is right."""
    cases = [Decided(example(f"c{i}"), "", Decision(i == 0)) for i in range(4)]
    return write_rows(step, Scored(name, "f" * 16, "bfcl"), cases, (), [Aggregate("v3", "non_live", 0.25)])


def test_the_report_shows_both_benchmarks_side_by_side(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(ws, monkeypatch)
    for name in checkpoints(0):
        ws.produce(f"bfcl/{name}", lambda step, name=name: bfcl_scores(step, name))
    artifact = report(ws).artifact
    page = artifact.file("report.md").read_text()
    assert "| base | 25.0% (1/4; 5%-70%) | 25.0% (1/4; 5%-70%) |" in page
    assert "| base | 91.7% (11/12; 65%-99%) | 100.0% (6/6; 61%-100%) | 83.3% (5/6; 44%-97%) |" in page
    assert "| exact | level_2 | 83.3% (5/6; 44%-97%) | 83.3% (5/6; 44%-97%) |" in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Leaderboard: held-out BFCL cases",
        "## To call or not: held-out BFCL cases",
        "## Overall, by its rules: held-out BFCL cases",
        "## Checkpoints on the same cases: held-out BFCL cases",
        "## Errors by type: held-out BFCL cases",
        "## Leaderboard: API-Bank's calls",
        "## To call or not: API-Bank's calls",
        "## Overall, by its rules: API-Bank's calls",
        "## Checkpoints on the same cases: API-Bank's calls",
        "## Errors by type: API-Bank's calls",
        "## Search",
    ]
    assert "| v3 | non_live | 25.0% | 25.0% |" in page
    assert "| base | warmup | 1 → 1 of 4 | 0 | 0 | +0.0% (+0.0% to +0.0%) | 1 |" in page
    assert "| base | warmup | 11 → 11 of 12 | 0 | 0 | +0.0% (+0.0% to +0.0%) | 1 |" in page
    metadata = artifact.manifest.metadata
    assert (metadata["accuracy_base_bfcl"], metadata["accuracy_base_api_bank"]) == (0.25, pytest.approx(11 / 12))
    assert {path.name for path in artifact.path.glob("*.png")} == {
        *("accuracy_bfcl.png", "errors_bfcl.png", "accuracy_api_bank.png", "errors_api_bank.png")
    }
    board = ask(database_of(ws), "SELECT benchmark, checkpoint, correct, total FROM leaderboard")
    assert board == [
        ("api_bank", "base", 11, 12),
        ("api_bank", "warmup", 11, 12),
        ("bfcl", "base", 1, 4),
        ("bfcl", "warmup", 1, 4),
    ]
    compared = "SELECT benchmark, first_checkpoint, second_checkpoint, cases FROM checkpoint_comparisons"
    assert ask(database_of(ws), compared) == [("api_bank", "base", "warmup", 12), ("bfcl", "base", "warmup", 4)]


def test_a_report_of_one_checkpoint(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=0, evaluation={"checkpoints": ("last",)})
    ws.produce("bfcl/warmup", lambda step: bfcl_scores(step, "warmup"))
    made = report(ws).artifact
    page = made.file("report.md").read_text()
    assert "| warmup | 25.0% (1/4; 5%-70%) | 25.0% (1/4; 5%-70%) |" in page
    assert "| base |" not in page
    assert "One checkpoint is scored, so there is none beside it." in page
    assert [key for key in made.manifest.metadata if key.startswith("accuracy_warm")] == ["accuracy_warmup_bfcl"]


def test_the_report_reads_artifacts_and_never_the_database(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is made on a worker, which has no database, as elsewhere; and it is the same where that was lost."""
    scored(ws, monkeypatch)
    for name in checkpoints(0):
        ws.produce(f"bfcl/{name}", lambda step, name=name: bfcl_scores(step, name))
    beside = report(ws).artifact.manifest.files
    ws.paths.database.unlink()
    on_a_worker = replace(ws, records=LeftToTheRun(), force=True)
    assert report(on_a_worker).artifact.manifest.files == beside
    assert not ws.paths.database.exists()
    assert list(ws.input("report").path.rglob("*.duckdb")) == []

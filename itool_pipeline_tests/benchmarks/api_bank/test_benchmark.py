"""API-Bank as a benchmark: its source, what is drawn of it, and its aggregates."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.api_bank import benchmark as api_bank
from itool_pipeline.benchmarks.api_bank.benchmark import ApiBankBenchmark, load_api_bank_pool
from itool_pipeline.benchmarks.api_bank.verdicts import decide
from itool_pipeline.benchmarks.types import Decided, Decision, Pool
from itool_pipeline.config import ApiBankConfig
from itool_pipeline.core.types import Example
from itool_pipeline_tests.benchmarks.api_bank.test_dialogues import BY_HAND, published
from itool_pipeline_tests.steps.by_hand import experiment


def words(e: Example) -> int:
    return len(e.question.split())


def test_api_bank_from_a_copy_and_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    files = published(BY_HAND, tmp_path)

    def download(name: str, revision: str, filename: str) -> Path:
        asked.append((name, revision, filename))
        return files["level_1" if "level-1" in filename else "level_2"]

    monkeypatch.setattr(api_bank, "download_dataset_file", download)
    hub = load_api_bank_pool(ApiBankConfig(revision="abc"))
    local = load_api_bank_pool(ApiBankConfig(path=str(BY_HAND)))
    assert asked == [
        ("liminghao1630/API-Bank", "abc", "test-data/level-1-api.json"),
        ("liminghao1630/API-Bank", "abc", "test-data/level-2-api.json"),
    ]
    assert Counter(e.category for e in local.examples) == {"level_1": 6, "level_2": 6}
    assert {e.id: e for e in hub.examples} == {e.id: e for e in local.examples}


def test_levels_lengths_and_numbers_are_those_of_the_config() -> None:
    asked = {"path": str(BY_HAND), "levels": ("level_2",), "cases_per_level": 2, "max_prompt_tokens": 6}
    e = experiment(evaluation={"api_bank": asked})
    rows = ApiBankBenchmark().load_cases(e, Path("nowhere"))
    drawn = ApiBankBenchmark().draw_cases(e, Pool(rows.examples, {x.id: words(x) for x in rows.examples}), Path())
    assert [case.category for case in drawn.cases] == ["level_2"] * 2
    assert max(map(words, drawn.cases)) <= 6
    assert drawn.unfit.total() == sum(words(x) > 6 for x in rows.examples if x.category == "level_2") > 0


def test_another_content_of_a_local_copy_is_another_source(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(BY_HAND, tmp_path / "copy"))
    e = experiment(evaluation={"api_bank": {"path": str(copy)}})
    before = ApiBankBenchmark().local_content(e)
    assert len(before) == 64
    moved = experiment(evaluation={"api_bank": {"path": str(BY_HAND)}})
    assert ApiBankBenchmark().source(moved) == ApiBankBenchmark().source(e) == {"source": before}
    (copy / "notes.txt").write_text("not read")
    assert ApiBankBenchmark().local_content(e) == before
    dialogue = next(copy.rglob("*.jsonl"))
    dialogue.write_text(dialogue.read_text() + "\n")
    assert ApiBankBenchmark().local_content(e) != before
    hub = experiment(evaluation={"api_bank": {}})
    assert (ApiBankBenchmark().local_content(hub), ApiBankBenchmark().local_content(experiment())) == ("", "")
    assert ApiBankBenchmark().source(hub)["source"].startswith("liminghao1630/API-Bank@")


def test_aggregates_by_hand() -> None:
    """One search whose keywords are alike but not equal; one other call is wrong."""
    cases = load_api_bank_pool(ApiBankConfig(path=str(BY_HAND))).examples

    def said(case: Example) -> str:
        return "[GetToday()]" if case.id == "level_2/QueryStock-level-3-1/3" else case.response

    decided = [Decided(x, said(x), Decision(decide(x, said(x)).correct)) for x in cases]
    found = ApiBankBenchmark().aggregates(decided, {})
    searches = sum(x.gold[0].name == "ToolSearcher" for x in cases)
    assert [(one.rule, one.part, one.correct, one.total) for one in found] == [
        ("exact", "overall", 11, 12),
        ("exact", "level_1", 6, 6),
        ("exact", "level_2", 5, 6),
        ("kind_of_call", "search", searches, searches),
        ("kind_of_call", "other", 11 - searches, 12 - searches),
    ]
    assert found[0].accuracy == pytest.approx(11 / 12)

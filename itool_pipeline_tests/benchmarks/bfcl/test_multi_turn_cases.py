"""The loader of multi-turn conversations against the benchmark's own."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.multi_turn_cases import load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_code import official_multi_turn
from itool_pipeline.config import BFCL_MULTI_TURN
from itool_pipeline.data.bfcl import DATA_FOLDER, answers_file, questions_file


@pytest.mark.parametrize("category", BFCL_MULTI_TURN)
def test_tools_turns_and_answers_are_the_official_ones(
    bfcl_dir: Path, category: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official_multi_turn(bfcl_dir)
    utils = importlib.import_module("bfcl_eval.utils")
    monkeypatch.setattr(utils, "LOCK_DIR", tmp_path)
    entries = utils.load_dataset_entry(category, include_language_specific_hint=False)
    answers = {row["id"]: row for row in map(json.loads, answers_file(bfcl_dir, category).read_text().splitlines())}
    cases = load_multi_turn(bfcl_dir, [category])
    assert [case.id for case in cases] == [entry["id"] for entry in entries]
    for case, entry in zip(cases, entries, strict=True):
        assert list(case.tools) == entry["function"]
        assert {str(k): list(v) for k, v in case.added_tools.items()} == entry.get("missed_function", {})
        assert [[{"role": m.role, "content": m.content} for m in turn] for turn in case.turns] == entry["question"]
        assert dict(case.world) == {key: entry[key] for key in ("id", "initial_config", "involved_classes")}
        assert [list(turn) for turn in case.ground_truth] == answers[case.id]["ground_truth"]
        assert len(case.turns) == len(case.ground_truth)


def test_a_question_may_hold_any_character(bfcl_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bfcl_dir / DATA_FOLDER, tmp_path / DATA_FOLDER)
    file = questions_file(tmp_path, "multi_turn_base")
    row = json.loads(file.read_text(encoding="utf-8").partition("\n")[0])
    row["question"][0][0]["content"] = "one\u2028two\u2029three\x85four"
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    (case,) = load_multi_turn(tmp_path, ["multi_turn_base"])
    assert case.turns[0][0].content == "one\u2028two\u2029three\x85four"


def test_an_unknown_category_is_refused(bfcl_dir: Path) -> None:
    with pytest.raises(ValueError, match="multi_turn_none"):
        load_multi_turn(bfcl_dir, ["multi_turn_none"])

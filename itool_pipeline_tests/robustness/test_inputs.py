"""The drills on generated inputs, with few tries; and what they once found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.data.layouts import read_any_layout
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.experiment_files import ConfigError, load_experiment
from itool_pipeline_tests.data.rows_in_layouts import CALL, ROWS, WEATHER, WRAPPED
from itool_pipeline_tests.robustness import files, inputs, models
from itool_pipeline_tests.robustness.outcome import Drill, Outcome, performed, summary

FEW = 150
TURN_OF_CALLS = {"from": "function_call", "value": [{"value": CALL}]}
PARAMETERS: dict[str, Any] = dict(ROWS["openai"]["tools"][0]["function"]["parameters"])


PERFORMED = [inputs.rows, inputs.configs, inputs.markdown, files.damaged_files]


@pytest.mark.parametrize("perform", PERFORMED, ids=lambda drill: drill.__name__)
def test_inputs_that_are_made_up_are_read_or_refused(perform: Any) -> None:
    outcome = performed(Drill("few", "", FEW, perform), None, seed=5)
    assert outcome.failures == []
    assert outcome.tries == FEW


@pytest.mark.slow
@pytest.mark.parametrize("perform", [models.model_folders, models.adapters], ids=lambda drill: drill.__name__)
def test_models_that_are_damaged_are_used_or_refused(base_model_dir: Path, perform: Any, downloads_dir: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITOOL_STORAGE", str(downloads_dir.parent))
        outcome = performed(Drill("few", "", 20, perform), None, seed=5)
    assert outcome.failures == []
    assert outcome.tries == 20


@pytest.mark.slow
@pytest.mark.parametrize("perform", [inputs.outputs, inputs.sandboxed], ids=lambda drill: drill.__name__)
def test_outputs_of_models_that_are_made_up_are_judged(bfcl_dir: Path, perform: Any, downloads_dir: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ITOOL_STORAGE", str(downloads_dir.parent))
        outcome = performed(Drill("few", "", FEW, perform), None, seed=5)
    assert outcome.failures == []
    assert outcome.tries == FEW


def test_a_drill_that_breaks_has_failed_and_is_in_the_summary() -> None:
    def perform(outcome: Outcome, *_: Any) -> None:
        outcome.tried([])
        raise KeyError("x")

    outcome = performed(Drill("broken", "", 1, perform), None, seed=3)
    assert outcome.failures == ["the drill broke: KeyError: 'x'"]
    assert summary([outcome]).splitlines()[-1].startswith("| broken | 2 | 1 | 0 | 3 |")


@pytest.mark.parametrize(
    "row",
    [
        {**ROWS["openai"], "tools": [{**WRAPPED, "function": {**WEATHER, "name": {"value": "get_weather"}}}]},
        {**ROWS["sharegpt"], "conversations": [ROWS["sharegpt"]["conversations"][0], TURN_OF_CALLS]},
    ],
    ids=["the name of a tool is no text", "a turn of calls holds parts of no kind"],
)
def test_rows_that_ended_in_a_trace_are_quarantined(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read_any_layout(path)
    assert isinstance(found, Quarantined)


def test_what_is_required_and_no_name_is_no_parameter(tmp_path: Path) -> None:
    tool = {**WRAPPED, "function": {**WEATHER, "parameters": {**PARAMETERS, "required": [{}, ["city"], "city"]}}}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROWS["openai"], "tools": [tool]}) + "\n")
    assert not [row for row in read_any_layout(path) if isinstance(row, Quarantined)]


@pytest.mark.parametrize("base", ["x" * 300, "a\\0", "a\\ud800", "a\\n"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(f'extends: "{base}"\n')
    with pytest.raises(ConfigError, match="is no experiment's name"):
        load_experiment("mine")

"""The configurations and rows in docs/data.md are what they claim to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itool_pipeline.config import BfclHalfData, ColumnNames, Experiment, JsonlData, MessageTags, ToolAceData, XlamData
from itool_pipeline.core.types import Example
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.layouts import LAYOUTS
from itool_pipeline.experiment_files import load_experiment
from itool_pipeline.steps.plan import plan

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
CONFIGS = dict(re.findall(r"```yaml\n# (\w+)\.yaml\n(.*?)```", PAGE, re.S))


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Experiment]:
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    for name, text in CONFIGS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: load_experiment(name) for name in CONFIGS}


def test_every_example_configuration_is_valid(loaded: dict[str, Experiment]) -> None:
    assert PAGE.count("```yaml") == len(CONFIGS) == 8
    assert {type(e.data) for e in loaded.values()} == {BfclHalfData, ToolAceData, XlamData, JsonlData}
    assert all(plan(e) for e in loaded.values())


def test_every_source_has_a_chapter_and_every_key_is_explained() -> None:
    chapters = re.findall(r"^## (\w+)$", PAGE, re.M)
    types = {
        str(kind.model_fields["type"].annotation.__args__[0])
        for kind in (BfclHalfData, ToolAceData, XlamData, JsonlData)
    }
    assert set(chapters) == types | {"Files", "Layouts"}
    own = {*JsonlData.model_fields, *ColumnNames.model_fields, *MessageTags.model_fields} - {"type"}
    for key in (*own, "prompt.tools"):
        assert f"`{key}`" in PAGE


def test_every_layout_is_in_the_table() -> None:
    assert set(re.findall(r"^\|.*\| `(\w+)` \|$", PAGE, re.M)) == {*LAYOUTS, "layout"}


def test_the_row_of_the_users_own_data_is_read(tmp_path: Path) -> None:
    (line,) = re.findall(r"```json\n(.*?)\n```", PAGE, re.S)
    path = tmp_path / "own.jsonl"
    path.write_text(line + "\n")
    rows = list(chat_rows(file_rows(path)))
    assert [row.response for row in rows if isinstance(row, Example)] == [
        '[get_weather(city="Rome")]',
        "Yes, 31 degrees.",
    ]
    assert len(rows) == 2

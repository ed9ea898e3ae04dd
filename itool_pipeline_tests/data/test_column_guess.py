"""Columns are guessed only where nothing has the usual name and one column alone can be meant."""

from __future__ import annotations

import json
from typing import Any

import pytest

from itool_pipeline.config import ColumnNames
from itool_pipeline.data.column_guess import guessed_columns
from itool_pipeline_tests.data.rows_in_layouts import ROWS, WEATHER

SAID, TOOLS = ROWS["trl"]["messages"], ROWS["trl"]["tools"]


@pytest.mark.parametrize(
    ("rows", "messages", "tools"),
    [
        ([{"dialog": SAID, "apis": [WEATHER]}], "dialog", "apis"),
        ([{"id": 1}, {"dialog": json.dumps(SAID), "apis": json.dumps(TOOLS)}], "dialog", "apis"),
        ([{"messages": SAID, "apis": TOOLS}], None, "apis"),
        ([{"messages": SAID, "apis": TOOLS, "target_apis": TOOLS}], None, None),
        ([{"messages": SAID, "tools": TOOLS, "apis": TOOLS}], None, None),
        ([{"chosen": SAID, "rejected": SAID}], None, None),
        ([{"dialog": [*SAID, {"role": "narrator"}]}], None, None),
        ([{"dialog": SAID[:1]}], None, None),
        ([{"half a character \ud800": SAID}], None, None),
        ([{"dialog": "[no JSON", "turns": [{"role": "user", "from": "gpt"}] * 2}], None, None),
        ([{**ROWS["glaive"], "apis": TOOLS}], None, None),
        ([], None, None),
    ],
)
def test_what_is_guessed(rows: list[dict[str, Any]], messages: str | None, tools: str | None) -> None:
    assert guessed_columns(rows) == ColumnNames(messages=messages, tools=tools)

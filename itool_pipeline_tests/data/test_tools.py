"""What of a tool's description is kept, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from itool_pipeline.data.rows import RowError
from itool_pipeline.data.tools import read_tool, read_tools

SCHEMA = {"type": "dict", "properties": {"city": {"type": "string", "default": None}}, "required": None}
TOOL = {"name": "weather", "description": "How warm it is.", "parameters": SCHEMA}


@pytest.mark.parametrize("beside", [{"required": None}, {"strict": None, "returns": None}, {}])
def test_a_null_beside_the_schema_goes_and_those_inside_stay(beside: dict[str, None]) -> None:
    """vLLM 0.32 hands a template `name`, `description` and `parameters`, the last as the client sent it."""
    read = read_tool({**TOOL, **beside})
    assert read == TOOL
    assert list(read) == ["name", "description", "parameters"]


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "f", "description": None, "parameters": {}},
        {"name": "f", "parameters": {}},
        {"name": "f", "parameters": {}, "required": [], "returns": {"type": "string"}},
    ],
)
def test_what_is_said_stays_as_it_stands(tool: dict[str, Any]) -> None:
    """A server shows a description that is null, too."""
    assert read_tool(tool) == tool
    assert list(read_tools([tool])[0]) == list(tool)


def test_what_is_no_tool_is_refused() -> None:
    with pytest.raises(RowError, match="a tool has no parameters: 'f'"):
        read_tool({"name": "f", "parameters": None})

"""A tool's description as every data set must give it. What differs from layout to layout is levelled by its reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator

from itool_pipeline.data.row_models import RowModel, read_row
from itool_pipeline.data.rows import expect_that

Tools: TypeAlias = tuple[Mapping[str, Any], ...]


class ToolDescription(RowModel):
    """What a tool cannot do without.

    parameters  JSON Schema, BFCL's variant of it, or the layout's own words
    """

    noun: ClassVar[str] = "a tool"

    name: str
    parameters: dict[str, Any]


def read_tool(given: Any) -> dict[str, Any]:
    """The tool with its keys as they stand: prompts show it so. Raises RowError when it is none.

    A null beside name, description and parameters says nothing and goes, for servers show no such key. One inside the
    parameters stays, as it does there.
    """
    read_row(ToolDescription, given)
    return {key: value for key, value in given.items() if value is not None or key == "description"}


GivenTool: TypeAlias = Annotated[dict[str, Any], BeforeValidator(read_tool)]
"""A tool inside the model of a row."""


def read_tools(given: Any) -> Tools:
    """The tools of a list. Raises RowError when it is no list, or one of them is no tool."""
    expect_that(isinstance(given, list), "the tool list is not a list")
    return tuple(read_tool(tool) for tool in given)

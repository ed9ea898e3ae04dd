"""What does not fit the model of a row is said in one sentence: whose key, what is wrong, what stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AfterValidator, Field

from itool_pipeline.data.row_models import SHOWN_CHARS, RowModel, read_row
from itool_pipeline.data.rows import RowError, expect_that
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.tools import read_tool
from itool_pipeline.data.xlam import read_xlam


def _even(number: int) -> int:
    expect_that(number % 2 == 0, "an odd number")
    return number


class Part(RowModel):
    noun: ClassVar[str] = "a part"

    name: str
    kind_of: Literal["small", "large"] = "small"
    sizes: dict[str, Any] = Field(default_factory=dict)
    number: Annotated[int, AfterValidator(_even)] = 0


class Whole(RowModel):
    title: str = Field(alias="called")
    parts: list[Part] = Field(min_length=1)


PART = {"name": "p", "more": "is not looked at"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (3, "not a JSON object"),
        ({}, "no title"),
        ({"called": None}, "no title"),
        ({"called": 3}, "the title is not text: 3"),
        ({"called": "c"}, "no parts"),
        ({"called": "c", "parts": []}, "no parts"),
        ({"called": "c", "parts": {}}, "the parts are not a list: {}"),
        ({"called": "c", "parts": [PART, 3]}, "a part is not an object: 3"),
        ({"called": "c", "parts": [{}]}, "a part has no name"),
        ({"called": "c", "parts": [{"name": [1]}]}, "the name of a part is not text: [1]"),
        ({"called": "c", "parts": [{**PART, "kind_of": "no"}]}, "a part has an unknown kind of: 'no'"),
        ({"called": "c", "parts": [{**PART, "kind_of": "\ud800"}]}, r"a part has an unknown kind of: '\ud800'"),
        ({"called": "c", "parts": [{**PART, "sizes": [1]}]}, "the sizes of a part are not an object: 'p' has [1]"),
        ({"called": "c", "parts": [{**PART, "sizes": None}]}, "a part has no sizes: 'p'"),
        ({"called": "c", "parts": [{**PART, "number": 3}]}, "an odd number"),
        (
            {"called": "c", "parts": [{**PART, "number": "4"}]},
            "the number of a part is not as it must be (Input should be a valid integer): 'p' has '4'",
        ),
        ({"called": 3, "parts": [3]}, "the title is not text: 3"),
    ],
)
def test_the_reason_of_the_first_key_that_is_wrong(row: Any, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        read_row(Whole, row)
    assert str(caught.value) == reason


def test_what_fits_is_read_and_other_keys_are_not_looked_at() -> None:
    whole = read_row(Whole, {"called": "\ud800", "parts": [PART]})
    assert (whole.title, whole.parts) == ("\ud800", [Part(name="p")])


def test_long_values_are_cut() -> None:
    with pytest.raises(RowError) as caught:
        read_tool({"name": "f" * 1000, "parameters": ["x" * 1000]})
    assert len(str(caught.value)) < 2 * SHOWN_CHARS + 60


def test_a_tool_keeps_its_keys_and_their_order() -> None:
    given = {"strict": True, "parameters": {}, "description": None, "name": "f"}
    assert list(read_tool(given).items()) == list(given.items())


def read_at_depth(folder: Path, depth: int) -> int:
    """How many rows are read out of one whose tools are nested so deeply."""
    (folder / "rows.json").write_text(f'[{{"query": "q", "answers": [], "tools": {"[" * depth}{"]" * depth}}}]')
    return len(list(read_xlam(folder / "rows.json")))


def test_a_row_that_is_nested_almost_too_deeply_is_quarantined(tmp_path: Path) -> None:
    """Somewhere between these depths lies what can still be read, and no longer be shown."""
    with pytest.raises(UnreadableFile, match="row 0"):
        assert {read_at_depth(tmp_path, depth) for depth in range(900, 1000)} == {1}

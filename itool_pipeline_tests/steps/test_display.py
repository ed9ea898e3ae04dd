"""Tables and pictures as the UI shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.image import imread

from itool_pipeline.steps.display import IMAGE, MARKDOWN, bar_plot, histogram, loss_plot, table


def test_a_table_by_hand() -> None:
    rows = [{"id": "a", "Q": 0.123456, "n": 3}, {"id": "b", "Q": -1.0, "n": None}]
    assert table(rows) == {MARKDOWN: "| id | Q | n |\n| --- | --- | --- |\n| a | 0.1235 | 3 |\n| b | -1 | None |"}


def test_a_head_stays_in_its_row() -> None:
    assert table([{"[a](b)|": 1}])[MARKDOWN].splitlines()[0] == "| \\[a\\](b)\\| |"


def test_the_first_row_names_the_columns() -> None:
    assert table([{"a": 1}, {"b": 2, "a": 3}])[MARKDOWN].splitlines()[2:] == ["| 1 |", "| 3 |"]
    assert table([{"a": 1}, {"b": 2}])[MARKDOWN].splitlines()[3] == "| None |"


def test_no_rows() -> None:
    assert table(iter([])) == {MARKDOWN: "*none*"}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("a|b", "a\\|b"),
        ("<script>", "&lt;script>"),
        ("![a](b)", "!\\[a\\](b)"),
        ("a_b _c_", "a_b \\_c\\_"),
        ("`*~&\\", "\\`\\*\\~\\&\\\\"),
        ("one\n  two\n", "one two"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 9 + "…"),
        ("two  spaces", "two  spac…"),
        (True, "True"),
        (1e-7, "1e-07"),
    ],
)
def test_cells_stay_in_their_row(value: object, cell: str) -> None:
    assert table([{"v": value}], cell_width=10)[MARKDOWN].splitlines()[2] == f"| {cell} |"


PICTURES: list[Callable[[Path], dict[str, str]]] = [
    lambda path: loss_plot(path, [3.0, 2.0, 1.5], [(0, 3.0), (3, 1.4)], "loss"),
    lambda path: loss_plot(path, [3.0], [], "no validation"),
    lambda path: bar_plot(path, {"base": {"x": 1.0}, "warmup": {"x": 2.0, "y": 3.0}}, "bars", "cases"),
    lambda path: bar_plot(path, {"base": {}}, "nothing wrong", "cases"),
    lambda path: histogram(path, [1.0, 2.0, 2.5], "perplexity", "perplexity"),
    lambda path: histogram(path, [1.0], "one value", "perplexity"),
]


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.filterwarnings("error")
def test_pictures_are_png_files_and_the_same_every_time(tmp_path: Path, draw: Callable[[Path], dict[str, str]]) -> None:
    assert draw(tmp_path / "one.png") == {IMAGE: "one.png"}
    draw(tmp_path / "two.png")
    pixels = imread(tmp_path / "one.png")
    assert pixels.shape[0] > 100
    assert pixels.shape[1] > 300
    assert pixels.min() < 0.5 < pixels.max(), "something is drawn"
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()

"""Section 3.1's thresholds, on both sides of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.config import DifficultyConfig
from itool_pipeline.core.difficulty import Difficulty, ExampleSize, difficulty_of, measure_size
from itool_pipeline.core.types import Example, Message
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem

BOUNDS = DifficultyConfig()
EASY, MEDIUM, HARD = Difficulty.EASY, Difficulty.MEDIUM, Difficulty.HARD


@pytest.mark.parametrize(
    ("a", "b", "c", "level"),
    [
        (1, 999, 1, EASY),
        (0, 2, 0, EASY),
        (1, 1000, 1, MEDIUM),
        (2, 999, 1, MEDIUM),
        (1, 999, 2, MEDIUM),
        (3, 2000, 3, MEDIUM),
        (4, 10, 1, HARD),
        (1, 2001, 1, HARD),
        (1, 10, 4, HARD),
        (1, 2000, 1, MEDIUM),
        (9, 9999, 9, HARD),
    ],
)
def test_the_papers_thresholds(a: int, b: int, c: int, level: Difficulty) -> None:
    assert difficulty_of(ExampleSize(a, b, c), BOUNDS) is level


def test_easy_is_asked_before_hard() -> None:
    bounds = DifficultyConfig(easy_max_tools=5, hard_min_tools=4)
    assert difficulty_of(ExampleSize(5, 10, 1), bounds) is EASY
    assert difficulty_of(ExampleSize(5, 1000, 1), bounds) is HARD


@given(st.integers(0, 8), st.integers(0, 4000), st.integers(0, 8), st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1)]))
def test_more_is_never_easier(a: int, b: int, c: int, more: tuple[int, int, int]) -> None:
    order = [EASY, MEDIUM, HARD]
    larger = ExampleSize(a + more[0], b + more[1], c + more[2])
    assert order.index(difficulty_of(ExampleSize(a, b, c), BOUNDS)) <= order.index(difficulty_of(larger, BOUNDS))


def _example(tools: tuple[dict[str, str], ...], calls: int) -> Example:
    gold = (GoldCall("f", {}),) * calls
    return Example("id", "s", "c", (Message("user", "?"),), tools, "", gold, "id")


def test_size_by_hand() -> None:
    assert measure_size(_example((), 0)) == ExampleSize(0, 2, 0)  # []
    assert measure_size(_example(({"name": "é"},), 1)) == ExampleSize(1, 14, 1)  # [{"name":"é"}]
    assert measure_size(_example(({"name": "f"}, {"a": "b"}), 3)) == ExampleSize(2, 24, 3)  # [{"name":"f"},{"a":"b"}]


def test_each_example_is_in_one_part() -> None:
    """More copies of one tool: one is easy, two are medium, four are hard."""
    easy = call_problem().example
    examples = [replace(easy, tools=easy.tools * count) for count in (1, 2, 4)]
    assert [difficulty_of(measure_size(example), BOUNDS) for example in examples] == [EASY, MEDIUM, HARD]
    assert difficulty_of(measure_size(text_problem().example), BOUNDS) is EASY

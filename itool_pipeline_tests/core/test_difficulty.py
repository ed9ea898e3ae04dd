"""Section 3.1's thresholds, on both sides of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.difficulty import Difficulty, Size, Thresholds, by_difficulty, difficulty, size
from itool_pipeline.core.types import Example, Message
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem

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
    assert difficulty(Size(a, b, c), Thresholds()) is level


def test_easy_is_asked_before_hard() -> None:
    bounds = Thresholds(easy_max_tools=5, hard_min_tools=4)
    assert difficulty(Size(5, 10, 1), bounds) is EASY
    assert difficulty(Size(5, 1000, 1), bounds) is HARD


@given(st.integers(0, 8), st.integers(0, 4000), st.integers(0, 8), st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1)]))
def test_more_is_never_easier(a: int, b: int, c: int, more: tuple[int, int, int]) -> None:
    order = [EASY, MEDIUM, HARD]
    larger = Size(a + more[0], b + more[1], c + more[2])
    assert order.index(difficulty(Size(a, b, c), Thresholds())) <= order.index(difficulty(larger, Thresholds()))


def _example(tools: tuple[dict[str, str], ...], calls: int) -> Example:
    gold = (GoldCall("f", {}),) * calls
    return Example("id", "s", "c", (Message("user", "?"),), tools, "", gold, "id")


def test_size_by_hand() -> None:
    assert size(_example((), 0)) == Size(0, 2, 0)  # []
    assert size(_example(({"name": "é"},), 1)) == Size(1, 14, 1)  # [{"name":"é"}]
    assert size(_example(({"name": "f"}, {"a": "b"}), 3)) == Size(2, 24, 3)  # [{"name":"f"},{"a":"b"}]


def test_stages_are_a_partition_in_the_given_order() -> None:
    easy, none = call_problem("e").example, text_problem("n").example
    hard = replace(easy, tools=easy.tools * 4)
    medium = replace(easy, tools=easy.tools * 2)
    examples = {"h2": hard, "e": easy, "m": medium, "h1": hard, "n": none}
    stages = by_difficulty(examples, Thresholds())
    assert stages == {EASY: ("e", "n"), MEDIUM: ("m",), HARD: ("h2", "h1")}
    assert list(stages) == [EASY, MEDIUM, HARD]
    assert by_difficulty({}, Thresholds()) == {EASY: (), MEDIUM: (), HARD: ()}

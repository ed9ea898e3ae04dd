"""Which questions share a group."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.data.near_duplicates import groups, normalised, pattern
from itool_pipeline_tests.data.examples import example


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the weather in Boston, MA?", "What is the weather in San Francisco?"),
        ("the area for base 10 and height 5.", "the area for base 3.5 and height 1,000"),
        ("find 'red shoes' now", 'find "a blue hat" now'),
        ("set alarm to 10:30", "set alarm to 7"),
        ("what's John's age", "what's Mary's age"),
    ],
)
def test_exchanged_values_keep_the_pattern(one: str, other: str) -> None:
    assert pattern(one) == pattern(other)
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the area for base 10", "the volume for base 10"),
        ("don't wake me", "do wake me"),
        ("what is the weather", "how is the weather"),
    ],
)
def test_other_words_are_another_pattern(one: str, other: str) -> None:
    assert pattern(one) != pattern(other)


def test_normalised_by_hand() -> None:
    assert normalised("  What's  UP,\n“Doc”? 3.5") == "what s up doc 3 5"


def test_groups_by_hand() -> None:
    found = groups(
        [
            example("a", "the area for base 10", tools=("area", "volume")),
            example("b", "the area for base 11", tools=("volume", "area")),
            example("c", "the area for base 11!", tools=("other",)),
            example("d", "the area for base 12", tools=("other",)),
            example("e", "the area for base 10", tools=("area",)),
            example("x", "the area for base 77", tools=("third",)),
        ]
    )
    # a-b: same tools and pattern; b-c: same question; c-d: same tools and pattern; a-e: same question
    assert found == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "a", "x": "x"}


def test_a_common_group_joins_whole_conversations() -> None:
    examples = [
        example("row1_0", "hello there", group="row1"),
        example("row1_2", "and then", group="row1"),
        example("row2_0", "and then", group="row2"),
        example("row3_0", "goodbye", group="row3"),
    ]
    found = groups(examples)
    assert set(found.values()) == {"row1_0", "row3_0"}


QUESTIONS = st.sampled_from(["find Bob", "find Ann", "take 3", "take 4", "look", "stop"])
EXAMPLES = st.lists(st.tuples(QUESTIONS, st.sampled_from(["f", "g", "h"])), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.randoms())
def test_groups_are_the_connected_components(rows: list[tuple[str, str]], shuffle: random.Random) -> None:
    examples = [example(f"e{i:02}", question, tools=(tool,)) for i, (question, tool) in enumerate(rows)]
    found = groups(examples)
    # by brute force: spread the least id over every related pair until nothing changes
    least = {e.id: e.id for e in examples}
    for _ in examples:
        for one in examples:
            for other in examples:
                same_tools = one.tools == other.tools and pattern(one.question) == pattern(other.question)
                if same_tools or normalised(one.question) == normalised(other.question):
                    least[one.id] = min(least[one.id], least[other.id])
    assert found == least
    shuffled = list(examples)
    shuffle.shuffle(shuffled)
    assert groups(shuffled) == found

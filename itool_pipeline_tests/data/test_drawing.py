"""Draws: stratified, reproducible, and what does not fit counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.core.types import Example
from itool_pipeline.data.drawing import NO_PROMPT, TOO_LONG, choose_cases, draw_ids, quotas
from itool_pipeline_tests.steps.by_hand import example


def of(sizes: dict[str, int]) -> dict[str, str]:
    """id → category."""
    return {f"{c}_{i:04}": c for c, n in sizes.items() for i in range(n)}


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ({"a": 50, "b": 30, "c": 20}, 10, {"a": 5, "b": 3, "c": 2}),
        # shares 3.5, 2.1, 1.4: floors leave one place, the largest remainder is a's
        ({"a": 50, "b": 30, "c": 20}, 7, {"a": 4, "b": 2, "c": 1}),
        # shares 1, 1/2, 1/2: one place for two equal remainders goes to the first name
        ({"c": 1, "b": 1, "a": 2}, 2, {"a": 1, "b": 1, "c": 0}),
        ({"a": 2, "b": 1}, None, {"a": 2, "b": 1}),
        ({"a": 2, "b": 1}, 9, {"a": 2, "b": 1}),
    ],
)
def test_quotas_by_hand(sizes: dict[str, int], limit: int | None, expected: dict[str, int]) -> None:
    assert quotas(sizes, limit) == expected


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1), st.integers(1, 100))
def test_quotas_add_up_and_are_near_the_share(sizes: dict[str, int], limit: int) -> None:
    quota = quotas(sizes, limit)
    total = sum(sizes.values())
    assert sum(quota.values()) == min(limit, total)
    for category, size in sizes.items():
        assert abs(quota[category] - min(limit, total) * size / total) < 1
        assert quota[category] <= size


def test_a_larger_draw_holds_the_smaller_in_any_order() -> None:
    categories = of({"a": 30, "b": 10})
    small = draw_ids(categories, {"a": 5, "b": 2}, seed=3)
    large = draw_ids(dict(reversed(categories.items())), {"a": 9, "b": 3}, seed=3)
    assert Counter(categories[key] for key in small) == {"a": 5, "b": 2}
    assert small < large
    assert draw_ids(categories, {"a": 5, "b": 2}, seed=4) != small


def test_cases_within_their_limits() -> None:
    """Of three categories two are asked for; one prompt has no length, and one is too long."""
    pool = [replace(example(f"{c}{i}", "x " * (i + 1)), category=c) for c in "abc" for i in range(4)]

    def tokens(case: Example) -> int | None:
        return None if case.id == "b0" else len(case.question.split())

    chosen, unfit = choose_cases(pool, ("a", "b"), 3, 2, 0, tokens)
    assert Counter(case.category for case in chosen) == {"a": 2, "b": 2}
    assert {case.id for case in chosen} <= {"a0", "a1", "a2", "b1", "b2"}
    assert unfit == {TOO_LONG: 2, NO_PROMPT: 1}
    whole, _ = choose_cases(pool, ("a", "b"), 3, None, 0, tokens)
    assert [case.id for case in whole] == ["a0", "a1", "a2", "b1", "b2"]

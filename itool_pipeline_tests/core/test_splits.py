"""The validation part: whole groups, never more than asked for."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.core.splits import training_ids, unseen_ids, validation_ids, validation_shortfall

GROUPS = st.dictionaries(st.integers(0, 99).map(str), st.sampled_from("abcdefgh"), max_size=40)
FRACTIONS = st.integers(0, 100).map(lambda percent: percent / 100)


@given(GROUPS, FRACTIONS, st.integers(0, 99))
def test_whole_groups_up_to_the_fraction(groups: dict[str, str], fraction: float, seed: int) -> None:
    taken = validation_ids(groups, fraction, seed)
    wanted = math.floor(Fraction(str(fraction)) * len(groups))
    assert taken <= groups.keys()
    assert len(taken) <= wanted
    crossing = {groups[key] for key in taken} & {groups[key] for key in groups.keys() - taken}
    assert crossing == set()
    # no group that was left would still fit
    sizes = Counter(groups.values())
    left = {group for group in sizes if group not in {groups[key] for key in taken}}
    assert all(len(taken) + sizes[group] > wanted for group in left)


@given(GROUPS, FRACTIONS, st.integers(0, 99))
def test_the_order_of_the_data_does_not_matter(groups: dict[str, str], fraction: float, seed: int) -> None:
    turned = dict(reversed(groups.items()))
    assert validation_ids(turned, fraction, seed) == validation_ids(groups, fraction, seed)


def test_groups_of_one_give_the_fraction_exactly() -> None:
    groups = {str(i): str(i) for i in range(100)}
    assert len(validation_ids(groups, 0.1, 0)) == 10
    # 0.29 · 100 is 28.999999999999996 in floating point
    assert len(validation_ids(groups, 0.29, 0)) == 29
    assert validation_ids(groups, 0.0, 0) == frozenset()
    assert validation_ids(groups, 1.0, 0) == groups.keys()


def test_a_group_larger_than_the_part_stays_in_training() -> None:
    groups = {str(i): "large" if i < 15 else str(i) for i in range(20)}
    for seed in range(20):
        taken = validation_ids(groups, 0.2, seed)
        assert len(taken) == 4
        assert all(groups[key] != "large" for key in taken)


@given(st.sets(st.integers(0, 99).map(str)), st.integers(1, 100), st.integers(1, 100), st.integers(0, 99))
def test_a_larger_share_holds_the_smaller(ids: set[str], one: int, other: int, seed: int) -> None:
    small, large = (training_ids(ids, percent / 100, seed) for percent in sorted((one, other)))
    assert small <= large <= ids
    assert len(small) == math.ceil(Fraction(min(one, other), 100) * len(ids))
    assert training_ids(ids, 1.0, seed) == ids
    assert training_ids(sorted(ids, reverse=True), one / 100, seed) == training_ids(ids, one / 100, seed)


@given(GROUPS, st.integers(1, 100), st.integers(0, 99))
def test_what_is_left_unseen_is_whole_groups_and_no_more_than_asked_for(
    groups: dict[str, str], seen: int, seed: int
) -> None:
    unseen = unseen_ids(groups, seen / 100, seed)
    assert len(unseen) * 100 <= (100 - seen) * len(groups)
    assert {groups[key] for key in unseen} & {groups[key] for key in groups.keys() - unseen} == set()


def test_what_is_left_unseen_is_not_what_validates() -> None:
    groups = {str(i): str(i) for i in range(100)}
    assert len(unseen_ids(groups, 0.6, 0)) == 40
    assert unseen_ids(groups, 1.0, 0) == frozenset()
    assert unseen_ids(groups, 0.6, 0) != validation_ids(groups, 0.4, 0)


def test_shares_are_drawn_at_random() -> None:
    counts = Counter(key for seed in range(400) for key in training_ids(set("0123456789"), 0.5, seed))
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250


def test_groups_are_drawn_at_random() -> None:
    groups = {str(i): str(i) for i in range(10)}
    counts = Counter(key for seed in range(400) for key in validation_ids(groups, 0.5, seed))
    assert min(counts[key] for key in groups) > 150
    assert max(counts.values()) < 250


def test_a_part_that_is_too_small_has_a_reason() -> None:
    large = {str(i): "large" if i < 95 else str(i) for i in range(100)}
    taken = validation_ids(large, 0.2, 0)
    assert validation_shortfall(large, taken, 0.2) == (
        "5 of 100 examples validate, where 20 were asked for: near-duplicates and the turns of one conversation stay "
        "together, and the largest such group has 95 examples, large among them"
    )
    one = dict.fromkeys(map(str, range(1200)), "7")
    assert validation_shortfall(one, frozenset(), 0.1).startswith("0 of 1200 examples validate, where 120 were asked")
    few = {str(i): str(i) for i in range(4)}
    assert validation_shortfall(few, frozenset(), 0.1) == "no example validates: 10% of 4 examples are less than one"


def test_what_was_asked_for_needs_no_reason() -> None:
    groups = {str(i): str(i) for i in range(100)}
    for fraction in (0.0, 0.1, 0.29, 1.0):
        assert validation_shortfall(groups, validation_ids(groups, fraction, 0), fraction) == ""
    pairs = {str(i): str(i // 2) for i in range(30)}
    assert len(validation_ids(pairs, 0.1, 0)) == 2  # of 3, but more than half
    assert validation_shortfall(pairs, validation_ids(pairs, 0.1, 0), 0.1) == ""
    assert validation_shortfall({}, frozenset(), 0.1) == ""

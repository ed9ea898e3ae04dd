"""Grouping against a brute force over all contiguous splits."""

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.training.packing import _PASS_OVERHEAD, micro_batches

LENGTHS = st.lists(st.integers(1, 400), max_size=7)


def padded(groups: list[list[int]]) -> int:
    return sum(max(group) * len(group) + _PASS_OVERHEAD for group in groups)


def all_splits(items: list[int]) -> list[list[list[int]]]:
    ordered = sorted(items, reverse=True)
    splits = []
    for count in range(len(ordered)):
        for cuts in combinations(range(1, len(ordered)), count):
            bounds = [0, *cuts, len(ordered)]
            splits.append([ordered[a:b] for a, b in pairwise(bounds)])
    return splits


def within(groups: list[list[int]], budget: int) -> bool:
    return all(len(group) == 1 or max(group) * len(group) <= budget for group in groups)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 1200))
def test_groups_are_the_cheapest_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = micro_batches(lengths, lambda n: n, budget)
    assert sorted(n for group in groups for n in group) == sorted(lengths)
    assert within(groups, budget)
    if lengths:
        assert padded(groups) == min(padded(s) for s in all_splits(lengths) if within(s, budget))


def test_far_lengths_are_not_padded_to_each_other() -> None:
    assert micro_batches([100, 900, 110, 880], lambda n: n, 4096) == [[900, 880], [110, 100]]


def test_a_length_is_asked_once_for_each_item() -> None:
    asked: list[int] = []

    def length(item: int) -> int:
        asked.append(item)
        return item

    micro_batches(list(range(1, 30)), length, 200)
    assert asked == list(range(1, 30))


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 1200))
def test_without_padding_groups_are_filled_in_the_items_order(lengths: list[int], budget: int) -> None:
    groups = micro_batches(lengths, lambda n: n, budget, joined=True)
    assert [n for group in groups for n in group] == lengths
    assert all(len(group) == 1 or sum(group) <= budget for group in groups)
    assert all(sum(one) + other[0] > budget for one, other in pairwise(groups)), "no item would find room before"

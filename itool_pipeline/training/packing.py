"""Which items of an optimizer step go into one forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_PASS_OVERHEAD = 64
"""What one more pass costs, in tokens: with it two items share a pass unless their lengths are far apart."""


def micro_batches(
    items: Sequence[T], length: Callable[[T], int], budget: int, *, joined: bool = False
) -> list[list[T]]:
    """`items` of a step in groups that are padded to their longest: the split with the fewest padded tokens.

    No group holds more than `budget` padded tokens, unless a single item is longer than that. Groups are of similar
    length; the same items in the same order give the same groups. `length` is asked once for each item.

    Where the items of a pass are joined to one row, nothing is padded: the next group begins with the item that has no
    room in the one before it.
    """
    lengths = [length(item) for item in items]
    if joined:
        return _filled(items, lengths, budget)
    # Longest first. A cheapest split never puts an item between two others' lengths into another group than both, so
    # only contiguous groups of this order need to be looked at, and a group's first item is what it is padded to.
    order = sorted(range(len(items)), key=lengths.__getitem__, reverse=True)
    cost = [0]
    """cost[n]: the cheapest way to compute the n longest items."""
    first = [0]
    """first[n]: where the last group of that way begins."""
    for end in range(1, len(order) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            padded = lengths[order[start]] * (end - start)
            if padded > budget and end - start > 1:
                break  # the further left a group begins, the longer and the wider it is
            options.append((cost[start] + padded + _PASS_OVERHEAD, start))
        best, start = min(options)
        cost.append(best)
        first.append(start)
    groups = []
    end = len(order)
    while end:  # the last group is known, then the one before it, …
        groups.append([items[index] for index in order[first[end] : end]])
        end = first[end]
    return groups[::-1]


def _filled(items: Sequence[T], lengths: Sequence[int], budget: int) -> list[list[T]]:
    groups: list[list[T]] = []
    room = 0
    for item, length in zip(items, lengths, strict=True):
        if not groups or length > room:
            groups.append([])
            room = budget
        groups[-1].append(item)
        room -= length
    return groups

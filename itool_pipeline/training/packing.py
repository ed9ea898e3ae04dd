"""Which items go into one optimizer step, and which of those into one forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_PASS_OVERHEAD = 64
"""What one more pass costs, in tokens: with it two items share a pass unless their lengths are far apart."""


def micro_batches(items: Sequence[T], length: Callable[[T], int], budget: int) -> list[list[T]]:
    """`items` of a step in groups that are padded to their longest: the split with the fewest padded tokens.

    No group holds more than `budget` padded tokens, unless a single item is longer than that. Groups are of similar
    length; the same items in the same order give the same groups.
    """
    ordered = sorted(items, key=length, reverse=True)
    cost = [0]
    first = [0]
    for end in range(1, len(ordered) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            padded = length(ordered[start]) * (end - start)
            if padded > budget and end - start > 1:
                break
            options.append((cost[start] + padded + _PASS_OVERHEAD, start))
        best, start = min(options)
        cost.append(best)
        first.append(start)
    groups = []
    end = len(ordered)
    while end:
        groups.append(ordered[first[end] : end])
        end = first[end]
    return groups[::-1]

"""Scores on a finite number of cases: counts of one, comparison of two on the same cases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """Correct cases of a category."""

    category: str
    correct: int
    total: int


def summarise(cases: Iterable[tuple[str, bool]], order: Sequence[str] = ()) -> list[CategoryScore]:
    """Scores from (category, correct) of every case: categories in `order`, then the others by name.

    A category without a case is missing, not zero.
    """
    total: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for category, is_correct in cases:
        total[category] += 1
        correct[category] += is_correct
    place = {category: index for index, category in enumerate(order)}
    return [
        CategoryScore(category, correct[category], total[category])
        for category in sorted(total, key=lambda c: (place.get(c, len(place)), c))
    ]


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test, in (0, 1].

    gained, lost: the cases that only the second, or only the first, has right. If neither is better, each such case
    falls to either side like a fair coin; p is the probability of a split at least as uneven as this one.
    Raises ValueError for negative counts.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"needs counts, got gained={gained}, lost={lost}")
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << n))


def paired_bootstrap(
    first: Sequence[bool], second: Sequence[bool], *, seed: int, resamples: int = 10_000
) -> tuple[float, float, float]:
    """(difference, low, high): accuracy of `second` minus that of `first` on the same cases, and its 95% interval.

    The interval holds the middle 95% of the differences on `resamples` sets of as many cases, drawn with replacement.
    Of a case only its difference -1, 0 or 1 counts, so a set is drawn as how often each of the three occurs in it.
    The same seed gives the same interval. Raises ValueError without cases, or for sequences of unequal length.
    """
    n = len(first)
    if n == 0 or n != len(second):
        raise ValueError(f"needs two verdicts on each of some cases, got {n} and {len(second)}")
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    shares = [lost / n, gained / n, (n - lost - gained) / n]
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / n, [0.025, 0.975])
    return (gained - lost) / n, float(low), float(high)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share; (0, 1) when nothing was counted. The database's views have the same."""
    if not total:
        return 0.0, 1.0
    z, share = 1.96, correct / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)

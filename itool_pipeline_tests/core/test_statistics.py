"""Wilson intervals against values worked out by hand."""

from __future__ import annotations

import pytest

from itool_pipeline.core.statistics import wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "z", "low", "high"),
    [
        # z = 2: n = 4, p = 1/2: centre 1/2 + 4/8 = 1, half 2 sqrt(1/16 + 4/64) = 0.7071, scale 2
        (2, 4, 2.0, 0.146446609, 0.853553391),
        # z = 2, n = 12, p = 0: centre 4/24 = half, scale 4/3: from 0 to 1/4
        (0, 12, 2.0, 0.0, 0.25),
        (12, 12, 2.0, 0.75, 1.0),
        # no doubt without z
        (3, 4, 0.0, 0.75, 0.75),
        # (0.1 + 0.19208 ± 1.96 sqrt(0.009 + 0.009604)) / 1.38416
        (1, 10, 1.96, 0.017876, 0.404156),
        (0, 0, 1.96, 0.0, 1.0),
    ],
)
def test_worked_out_by_hand(correct: int, total: int, z: float, low: float, high: float) -> None:
    assert wilson_interval(correct, total, z) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize(("correct", "total", "z"), [(-1, 3, 1.0), (4, 3, 1.0), (1, 3, -1.0)])
def test_impossible_counts_are_refused(correct: int, total: int, z: float) -> None:
    with pytest.raises(ValueError, match="needs 0 <= correct <= total"):
        wilson_interval(correct, total, z)

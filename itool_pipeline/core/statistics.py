"""Intervals for proportions: scores on a finite number of cases."""

from __future__ import annotations

import math


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval (low, high) of a proportion, within [0, 1]; z = 1.96 for 95% confidence.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). With no cases nothing is known: (0.0, 1.0).
    Raises ValueError unless 0 <= correct <= total and z >= 0.
    """
    if not 0 <= correct <= total or z < 0:
        raise ValueError(f"needs 0 <= correct <= total and z >= 0, got correct={correct}, total={total}, z={z}")
    if total == 0:
        return 0.0, 1.0
    p, square = correct / total, z * z
    centre = p + square / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + square / (4 * total * total))
    scale = 1 + square / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)

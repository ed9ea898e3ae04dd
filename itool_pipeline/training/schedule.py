"""The learning rate over a training: linear up, then half a cosine down to 0 (App. B.1)."""

from __future__ import annotations

import math


def learning_rate_factor(before: int, after: int, total: int, warmup: float) -> float:
    """What the learning rate of one optimizer step is multiplied with.

    before, after  how much of `total` is done before and after the step: steps or, where nobody knows how many there
                   will be, tokens; `before` is less than `total`
    warmup         how much of it goes up to 1

    The schedule of transformers starts at 0 instead of 1/warmup, so that its first step trains nothing: of a hundred
    steps one is lost, of the few that a small stage has, one in three.
    """
    if before < warmup:
        return min(1.0, after / warmup)
    return 0.5 * (1 + math.cos(math.pi * (before - warmup) / (total - warmup)))

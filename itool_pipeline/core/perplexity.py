"""Complexity of an example: length-normalised perplexity of its gold response (Eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def response_perplexity(logprobs: Sequence[float]) -> float:
    """h = (1 / P(y | q, T)) ** (1 / n) for the n natural log-probabilities of the response's tokens.

    Raises ValueError for an empty response, whose perplexity is undefined.
    """
    if len(logprobs) == 0:
        raise ValueError("the perplexity of an empty response is undefined")
    return math.exp(-math.fsum(float(p) for p in logprobs) / len(logprobs))

"""Eq. 4 against roots taken by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itool_pipeline.core.perplexity import response_perplexity

PROBABILITIES = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([1.0], 1.0),
        ([0.25], 4.0),
        ([0.5, 0.5, 0.5], 2.0),  # (8)^(1/3)
        ([0.5, 0.25, 0.125], 4.0),  # (2 · 4 · 8)^(1/3) = 64^(1/3)
        ([1.0, 0.01], 10.0),  # 100^(1/2)
        ([0.1, 0.1, 1.0, 1.0], math.sqrt(10)),  # 100^(1/4)
    ],
)
def test_worked_out_by_hand(probabilities: list[float], expected: float) -> None:
    assert response_perplexity([math.log(p) for p in probabilities]) == pytest.approx(expected, rel=1e-12)


@given(PROBABILITIES)
def test_is_the_nth_root_of_one_over_the_product(probabilities: list[float]) -> None:
    value = response_perplexity([math.log(p) for p in probabilities])
    assert value == pytest.approx((1 / math.prod(probabilities)) ** (1 / len(probabilities)), rel=1e-9)
    assert 1 / max(probabilities) - 1e-9 <= value <= 1 / min(probabilities) * (1 + 1e-9)


@given(PROBABILITIES, st.integers(2, 4))
def test_does_not_grow_with_length(probabilities: list[float], times: int) -> None:
    logprobs = [math.log(p) for p in probabilities]
    assert response_perplexity(logprobs * times) == pytest.approx(response_perplexity(logprobs), rel=1e-12)


def test_takes_an_array() -> None:
    assert response_perplexity(np.log(np.array([0.5, 0.5], dtype=np.float32))) == pytest.approx(2.0)  # type: ignore[arg-type]


def test_an_impossible_token_is_infinitely_hard() -> None:
    assert response_perplexity([-0.1, -math.inf]) == math.inf


def test_an_empty_response_is_refused() -> None:
    with pytest.raises(ValueError, match="empty response"):
        response_perplexity([])

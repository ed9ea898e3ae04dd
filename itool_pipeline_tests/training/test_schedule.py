"""The schedule by hand."""

from __future__ import annotations

import math

import pytest

from itool_pipeline.training.schedule import learning_rate_factor


def test_schedule_by_hand() -> None:
    factors = [learning_rate_factor(step, step + 1, 6, 2) for step in range(6)]
    # Two steps up; then half a cosine over the remaining four: cos 0, 45, 90, 135 degrees.
    root = math.sqrt(0.5)
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.5 * (1 + root), 0.5, 0.5 * (1 - root)])
    assert learning_rate_factor(0, 1, 1, 0) == 1.0
    assert learning_rate_factor(0, 1, 1, 1) == 1.0


def test_a_step_that_leads_past_the_warm_up_has_the_whole_rate() -> None:
    assert learning_rate_factor(3, 9, 40, 4.5) == 1.0

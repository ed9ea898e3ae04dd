"""Sections of the config as the tests of core want them."""

from __future__ import annotations

from typing import Any, TypeVar

from itool_pipeline.config import ExactGrades, NoGrades, OutcomeConfig, SampledGrades
from itool_pipeline.config.fields import Section

AnySection = TypeVar("AnySection", bound=Section)


def changed(section: AnySection, **over: Any) -> AnySection:
    """The section with other values, be they within its bounds or not."""
    return section.model_copy(update=over)


ONLY_GRADE: dict[str, Any] = {
    "outcome": OutcomeConfig(correct=0.0, wrong=0.0, progress=0.0),
    "self_evaluation": ExactGrades(weights=(10.0, 0.0, 0.0, -10.0)),
}
"""R = C, and any R in [-10, 10] can be had."""

ONLY_OUTCOME: dict[str, Any] = {"self_evaluation": NoGrades(type="none")}
"""R = O."""

DRAWN_GRADES: dict[str, Any] = {"self_evaluation": SampledGrades(type="sampled", samples=4)}
"""C is the mean of four draws."""

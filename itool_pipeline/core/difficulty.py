"""Difficulty of an example, for the easy-to-hard warm-up (Section 3.1).

The paper's three definitions overlap (b = 1500 with one tool is both medium and, by its "or", nearly anything), so
they are read in this order: easy if all three easy conditions hold, hard if any hard condition holds, else medium.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from itool_pipeline.config import DifficultyConfig
from itool_pipeline.core.prompts import tool_list_text
from itool_pipeline.core.types import Example


class Difficulty(StrEnum):
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class ExampleSize:
    """What difficulty looks at: a = `tools`, b = `chars`, c = `calls`."""

    tools: int
    chars: int
    calls: int


def measure_size(example: Example) -> ExampleSize:
    """The three measures of Section 3.1. Characters are those of the tool list as the prompt shows it."""
    return ExampleSize(len(example.tools), len(tool_list_text(example.tools)), len(example.gold))


def difficulty_of(measured: ExampleSize, bounds: DifficultyConfig) -> Difficulty:
    """Which part of D = D_easy ∪ D_medium ∪ D_hard (Eq. 1) an example is in, by the bounds of Section 3.1."""
    a, b, c = measured.tools, measured.chars, measured.calls
    if a <= bounds.easy_max_tools and b < bounds.easy_below_chars and c <= bounds.easy_max_calls:
        return Difficulty.EASY
    if a >= bounds.hard_min_tools or b > bounds.hard_above_chars or c >= bounds.hard_min_calls:
        return Difficulty.HARD
    return Difficulty.MEDIUM

"""Difficulty of an example, for the easy-to-hard warm-up (Section 3.1).

The paper's three definitions overlap (b = 1500 with one tool is both medium and, by its "or", nearly anything), so
they are read in this order: easy if all three easy conditions hold, hard if any hard condition holds, else medium.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from itool_pipeline.core.prompts import tool_list_text
from itool_pipeline.core.types import Example


class Difficulty(StrEnum):
    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds of Section 3.1 on a (tools), b (characters of the tool list) and c (calls in the response)."""

    easy_max_tools: int = 1
    easy_below_chars: int = 1000
    easy_max_calls: int = 1
    hard_min_tools: int = 4
    hard_above_chars: int = 2000
    hard_min_calls: int = 4


@dataclass(frozen=True, slots=True)
class Size:
    """What difficulty looks at: a = `tools`, b = `chars`, c = `calls`."""

    tools: int
    chars: int
    calls: int


def size(example: Example) -> Size:
    """The three measures of Section 3.1. Characters are those of the tool list as the prompt shows it."""
    return Size(len(example.tools), len(tool_list_text(example.tools)), len(example.gold))


def difficulty(measured: Size, bounds: Thresholds) -> Difficulty:
    """Easy, medium or hard (Section 3.1, read in the order that the module's docstring gives)."""
    a, b, c = measured.tools, measured.chars, measured.calls
    if a <= bounds.easy_max_tools and b < bounds.easy_below_chars and c <= bounds.easy_max_calls:
        return Difficulty.EASY
    if a >= bounds.hard_min_tools or b > bounds.hard_above_chars or c >= bounds.hard_min_calls:
        return Difficulty.HARD
    return Difficulty.MEDIUM


def by_difficulty(examples: Mapping[str, Example], bounds: Thresholds) -> dict[Difficulty, tuple[str, ...]]:
    """Ids of each stage of the curriculum, D = D_easy ∪ D_medium ∪ D_hard (Eq. 1), in the order given."""
    levels = {key: difficulty(size(example), bounds) for key, example in examples.items()}
    return {level: tuple(key for key, at in levels.items() if at is level) for level in Difficulty}

"""The categories of BFCL and the levels of API-Bank, by name."""

from __future__ import annotations

from typing import Literal, get_args

BfclTrainingCategory = Literal[
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "irrelevance",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
    "live_irrelevance",
]
BfclSingleTurnCategory = BfclTrainingCategory | Literal["simple_java", "simple_javascript", "live_relevance"]
BfclMultiTurnCategory = Literal[
    "multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context"
]

BFCL_TRAINING: tuple[BfclTrainingCategory, ...] = get_args(BfclTrainingCategory)
"""BFCL's single-turn Python categories that carry a gold answer to train on."""

BFCL_SINGLE_TURN: tuple[BfclSingleTurnCategory, ...] = (
    *BFCL_TRAINING,
    "simple_java",
    "simple_javascript",
    "live_relevance",
)
"""All single-turn categories, to be scored."""

BFCL_MULTI_TURN: tuple[BfclMultiTurnCategory, ...] = get_args(BfclMultiTurnCategory)
"""The multi-turn categories, to be scored."""


ApiBankLevel = Literal["level_1", "level_2"]

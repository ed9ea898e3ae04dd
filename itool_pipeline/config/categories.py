"""The categories of BFCL, each declared once with what it asks, and the levels of API-Bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal


class BfclKind(StrEnum):
    """What a category asks for, and so how its answers are decided."""

    SIMPLE = "simple"  # one call, of the only tool
    MULTIPLE = "multiple"  # one call, of one of several tools
    PARALLEL = "parallel"  # several calls of the only tool
    PARALLEL_MULTIPLE = "parallel_multiple"  # several calls of several tools
    IRRELEVANCE = "irrelevance"  # no call: no tool fits
    RELEVANCE = "relevance"  # a call, whichever: some tool fits
    MULTI_TURN = "multi_turn"  # a conversation, its calls executed


@dataclass(frozen=True, slots=True)
class BfclCategory:
    """`live`: asked by users of the leaderboard. `language`: of argument values; the other two can only be scored."""

    kind: BfclKind
    live: bool = False
    language: str = "python"


BFCL_CATEGORIES: Mapping[str, BfclCategory] = {
    "simple_python": BfclCategory(BfclKind.SIMPLE),
    "multiple": BfclCategory(BfclKind.MULTIPLE),
    "parallel": BfclCategory(BfclKind.PARALLEL),
    "parallel_multiple": BfclCategory(BfclKind.PARALLEL_MULTIPLE),
    "irrelevance": BfclCategory(BfclKind.IRRELEVANCE),
    "simple_java": BfclCategory(BfclKind.SIMPLE, language="java"),
    "simple_javascript": BfclCategory(BfclKind.SIMPLE, language="javascript"),
    "live_simple": BfclCategory(BfclKind.SIMPLE, live=True),
    "live_multiple": BfclCategory(BfclKind.MULTIPLE, live=True),
    "live_parallel": BfclCategory(BfclKind.PARALLEL, live=True),
    "live_parallel_multiple": BfclCategory(BfclKind.PARALLEL_MULTIPLE, live=True),
    "live_irrelevance": BfclCategory(BfclKind.IRRELEVANCE, live=True),
    "live_relevance": BfclCategory(BfclKind.RELEVANCE, live=True),
    "multi_turn_base": BfclCategory(BfclKind.MULTI_TURN),
    "multi_turn_miss_func": BfclCategory(BfclKind.MULTI_TURN),
    "multi_turn_miss_param": BfclCategory(BfclKind.MULTI_TURN),
    "multi_turn_long_context": BfclCategory(BfclKind.MULTI_TURN),
}
"""Every category by its name in the benchmark."""

_ONE_TURN = tuple(name for name, category in BFCL_CATEGORIES.items() if category.kind is not BfclKind.MULTI_TURN)

BFCL_TRAINING = tuple(
    name
    for name in _ONE_TURN
    if BFCL_CATEGORIES[name].language == "python" and BFCL_CATEGORIES[name].kind is not BfclKind.RELEVANCE
)
"""The single-turn Python categories that carry a gold answer to train on."""

BFCL_SINGLE_TURN = (*BFCL_TRAINING, *(name for name in _ONE_TURN if name not in BFCL_TRAINING))
"""All single-turn categories, to be scored."""

BFCL_MULTI_TURN = tuple(name for name in BFCL_CATEGORIES if name not in _ONE_TURN)
"""The multi-turn categories, to be scored."""

if TYPE_CHECKING:  # a type checker cannot read a choice that is made from a table; pydantic can
    BfclTrainingCategory = str
    BfclSingleTurnCategory = str
    BfclMultiTurnCategory = str
else:
    BfclTrainingCategory = Literal[BFCL_TRAINING]
    BfclSingleTurnCategory = Literal[BFCL_SINGLE_TURN]
    BfclMultiTurnCategory = Literal[BFCL_MULTI_TURN]


ApiBankLevel = Literal["level_1", "level_2"]

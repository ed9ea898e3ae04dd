"""BFCL's overall scores by two of its rules, out of the counts of each category.

- `v3`, the paper's: overall is the plain mean of non_live, live and multi_turn. non_live is the plain mean of simple
  (itself that of Python, Java and JavaScript), multiple, parallel, parallel_multiple and irrelevance; live is the
  share of right cases over all live categories, relevance and irrelevance among them; multi_turn is the plain mean of
  its four. The categories that v3 executed against real services are not in the benchmark any more.
- `v4`, that of the pinned wheel: overall weighs non_live, live, irrelevance, multi_turn and agentic as 10, 10, 10, 30
  and 40. non_live and live are without relevance and irrelevance; irrelevance is the plain mean of its two categories.
  Agentic categories are not evaluated here, so there is no v4 overall.

Where not all cases of a live category were evaluated, its accuracy still counts by the category's size.
A part that lacks a category is missing, never 0 (the official table counts it as 0). `overall_partial` weighs the
parts that are there in the rule's own proportions; it compares with no published number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from itool_pipeline.benchmarks.types import Aggregate
from itool_pipeline.config import BFCL_CATEGORIES, BFCL_MULTI_TURN, BfclKind

Counts = Mapping[str, tuple[int, int]]
"""Category → (correct, total) of the cases that were evaluated."""

Sizes = Mapping[str, int]
"""Category → how many held-out cases there are, evaluated or not."""


def _of(*kinds: BfclKind, live: bool = False) -> tuple[str, ...]:
    """The categories of these kinds."""
    return tuple(name for name, c in BFCL_CATEGORIES.items() if c.kind in kinds and c.live is live)


_CALLING = (BfclKind.MULTIPLE, BfclKind.PARALLEL, BfclKind.PARALLEL_MULTIPLE)
_SIMPLE = _of(BfclKind.SIMPLE)
_NON_LIVE = _of(*_CALLING)
_LIVE = _of(BfclKind.SIMPLE, *_CALLING, live=True)
_V3_WEIGHTS = {"non_live": 1, "live": 1, "multi_turn": 1}
_V4_WEIGHTS = {"non_live": 10, "live": 10, "irrelevance": 10, "multi_turn": 30, "agentic": 40}


def bfcl_aggregates(counts: Counts, sizes: Sizes) -> list[Aggregate]:
    """All aggregates of both rules, with relevance and irrelevance beside them. `sizes` of the live categories."""
    relevance = _category(counts, "live_relevance", "relevance")
    irrelevance = _mean("", "irrelevance", [_category(counts, c) for c in ("irrelevance", "live_irrelevance")])
    simple = _mean("", "simple", [_category(counts, c) for c in _SIMPLE])
    calling = [simple, *(_category(counts, c) for c in _NON_LIVE)]
    multi_turn = _mean("", "multi_turn", [_category(counts, c) for c in BFCL_MULTI_TURN])
    v3 = [
        _mean("v3", "non_live", [*calling, _category(counts, "irrelevance")]),
        _by_size("v3", "live", counts, sizes, (*_LIVE, "live_irrelevance", "live_relevance")),
        multi_turn,
    ]
    v4 = [
        _mean("v4", "non_live", calling),
        _by_size("v4", "live", counts, sizes, _LIVE),
        irrelevance,
        multi_turn,
        Aggregate("v4", "agentic", None, ("agentic",)),
    ]
    return [
        *_with_overall("v3", v3, _V3_WEIGHTS, [relevance, irrelevance]),
        *_with_overall("v4", v4, _V4_WEIGHTS, [relevance]),
    ]


def _category(counts: Counts, category: str, part: str = "") -> Aggregate:
    correct, total = counts.get(category, (0, 0))
    return Aggregate("", part or category, correct / total if total else None, () if total else (category,))


def _by_size(rule: str, part: str, counts: Counts, sizes: Sizes, categories: Sequence[str]) -> Aggregate:
    """Every case of the categories counts once, an evaluated one for those of its category that were not too."""
    each = {category: _category(counts, category) for category in categories}
    missing = tuple(name for one in each.values() for name in one.missing)
    known = sum(sizes[c] * one.accuracy for c, one in each.items() if one.accuracy is not None)
    return Aggregate(rule, part, None if missing else known / sum(sizes[c] for c in categories), missing)


def _mean(rule: str, part: str, parts: Sequence[Aggregate]) -> Aggregate:
    """Every part counts once."""
    known = [one.accuracy for one in parts if one.accuracy is not None]
    missing = tuple(name for one in parts for name in one.missing)
    return Aggregate(rule, part, None if missing else sum(known) / len(known), missing)


def _with_overall(
    rule: str, parts: Sequence[Aggregate], weights: Mapping[str, int], beside: Sequence[Aggregate]
) -> list[Aggregate]:
    known = {one.part: one.accuracy for one in parts if one.accuracy is not None}
    weight = sum(weights[part] for part in known)
    partial = sum(weights[part] * accuracy for part, accuracy in known.items()) / weight if known else None
    left_out = tuple(one.part for one in parts if one.accuracy is None)
    overall = Aggregate(rule, "overall", None if left_out else partial, left_out)
    named = [Aggregate(rule, one.part, one.accuracy, one.missing) for one in (*parts, *beside)]
    return [overall, Aggregate(rule, "overall_partial", partial, left_out), *named]

"""The replay buffer: a fixed random part of the data, whose hardest examples are searched (Section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from itool_pipeline.core.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class RankedExample:
    """One buffered example: its complexity c = h (Eq. 4), its rank (0 is hardest) and whether it is searched."""

    example_id: str
    perplexity: float
    rank: int
    selected: bool


def _share(fraction: float, count: int) -> int:
    """`fraction` of `count`, rounded up; 7% of 100 are 7, though 0.07 * 100 > 7 in floating point."""
    return math.ceil(round(fraction * count, 6))


def draw_buffer(ids: Sequence[str], fraction: float, seed: int) -> tuple[str, ...]:
    """A random `fraction` of `ids`, in their order: what the buffer is initialised with (Section 3.2)."""
    count = _share(fraction, len(ids))
    rng = np.random.default_rng(derive_seed(seed, "replay_buffer"))
    chosen = rng.permutation(len(ids))[:count]
    return tuple(ids[i] for i in sorted(chosen))


def select_hardest(
    perplexities: Mapping[str, float],
    top_fraction: float,
    *,
    by: str,
    seed: int,
    groups: Mapping[str, str] | None = None,
    right: Mapping[str, float] | None = None,
) -> tuple[RankedExample, ...]:
    """Rank the buffer and mark the top `top_fraction` (at least one) as selected, hardest first.

    by      `perplexity` (Section 3.2); `random` for comparison: then the marks are drawn at random; or `mistakes`: the
            lower the share of right answers the harder, and of equals those with the higher perplexity
    groups  id → group: the fraction is taken of each group separately. Ranks are over the whole buffer all the same
    right   id → share of right answers, for `mistakes`
    """
    if by not in ("perplexity", "random", "mistakes"):
        raise ValueError(f"select_by must be 'perplexity', 'random' or 'mistakes', not {by!r}")
    shares = right if by == "mistakes" and right else dict.fromkeys(perplexities, 0.0)
    order = sorted(perplexities, key=lambda key: (shares[key], -perplexities[key], key))
    members: dict[str, list[str]] = {}
    for key in order:
        members.setdefault(groups[key] if groups else "", []).append(key)
    chosen: set[str] = set()
    for group, keys in members.items():
        if by == "random":
            keys = [keys[i] for i in np.random.default_rng(derive_seed(seed, "select", group)).permutation(len(keys))]
        chosen.update(keys[: max(1, _share(top_fraction, len(keys))) if top_fraction > 0 else 0])
    return tuple(RankedExample(key, perplexities[key], rank, key in chosen) for rank, key in enumerate(order))

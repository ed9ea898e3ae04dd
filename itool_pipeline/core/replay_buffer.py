"""The replay buffer: a fixed random part of the data, whose hardest examples are searched (Section 3.2)."""

from __future__ import annotations

import math
from collections import Counter
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


def _budget(top_fraction: float, count: int) -> int:
    """How many of `count` are searched: at least one, unless none is asked for."""
    return max(1, _share(top_fraction, count)) if top_fraction > 0 else 0


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
    counts: Mapping[str, int] | None = None,
    right: Mapping[str, float] | None = None,
) -> tuple[RankedExample, ...]:
    """Rank the buffer and mark the top `top_fraction` (at least one) as selected, hardest first.

    by      `perplexity` (Section 3.2); `random` for comparison: then the marks are drawn at random; or `mistakes`: the
            lower the share of right answers the harder, and of equals those with the higher perplexity
    groups  id → group: the fraction is taken of each group separately. Ranks are over the whole buffer all the same
    counts  group → how many are taken of it, in place of the fraction
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
        chosen.update(keys[: _budget(top_fraction, len(keys)) if counts is None else counts[group]])
    return tuple(RankedExample(key, perplexities[key], rank, key in chosen) for rank, key in enumerate(order))


def most_frequent(mistakes: Mapping[str, int]) -> str | None:
    """The type that occurs most often, of equals the first by name; None without any."""
    return min(mistakes, key=lambda kind: (-mistakes[kind], kind), default=None)


def share_among_mistakes(mistakes: Mapping[str, Mapping[str, int]], top_fraction: float) -> dict[str, int]:
    """Most frequent type of mistake → how many examples of it are searched, `top_fraction` of the buffer together.

    Types get their share as often as each occurs in all answers, so that what the newest policy does wrong decides what
    it is trained on (dynamic deficiency calibration). Examples without a mistake, "", get what the others leave.

    mistakes  id → type → number of wrong answers
    """
    sizes = Counter(most_frequent(own) or "" for own in mistakes.values())
    occurs = Counter[str]()
    for own in mistakes.values():
        occurs.update(own)
    budget = min(len(mistakes), _budget(top_fraction, len(mistakes)))
    shares = apportion(budget, occurs, sizes)
    return {**shares, "": budget - sum(shares.values())}


def apportion(total: int, weights: Mapping[str, int], most: Mapping[str, int]) -> dict[str, int]:
    """`total` in whole numbers in proportion to the weights, by largest remainders, of equals the first by name.

    None gets more than `most` of it (0 where it is not named); what it cannot take is shared among the others.
    """
    shares, open_to = dict.fromkeys(weights, 0), {name: weight for name, weight in weights.items() if weight > 0}
    while full := [n for n, w in open_to.items() if total * w >= most.get(n, 0) * sum(open_to.values())]:
        for name in full:
            shares[name] = most.get(name, 0)
        total -= sum(shares[name] for name in full)
        open_to = {name: weight for name, weight in open_to.items() if name not in full}
    whole = sum(open_to.values())
    for name, weight in open_to.items():
        shares[name] = total * weight // whole
    left = total - sum(shares[name] for name in open_to) if open_to else 0
    for name in sorted(open_to, key=lambda name: (-(total * open_to[name] % whole), name))[:left]:
        shares[name] += 1
    return shares

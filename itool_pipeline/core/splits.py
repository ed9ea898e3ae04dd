"""Training and validation parts of the data, near-duplicates kept together (Section 4.1 warms up on 90%), and shares of
the training part (Section 2.2).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from itool_pipeline.core.seeds import derive_seed


def validation_ids(groups: Mapping[str, str], fraction: float, seed: int) -> frozenset[str]:
    """About `fraction` of the ids in `groups` (id → group), by whole groups drawn at random.

    A group is taken as long as it does not lead past the fraction, so the part is never larger than asked for.
    """
    members: dict[str, list[str]] = {}
    for key in sorted(groups):
        members.setdefault(groups[key], []).append(key)
    names = sorted(members)
    order = np.random.default_rng(derive_seed(seed, "validation")).permutation(len(names))
    wanted, taken = _wanted(groups, fraction), list[str]()
    for i in order:
        if len(taken) + len(members[names[i]]) <= wanted:
            taken += members[names[i]]
    return frozenset(taken)


def training_ids(ids: Collection[str], fraction: float, seed: int) -> frozenset[str]:
    """A random `fraction` of `ids`, rounded up; a larger one holds the smaller (Section 2.2)."""
    names = sorted(ids)
    order = np.random.default_rng(derive_seed(seed, "train")).permutation(len(names))
    return frozenset(names[i] for i in order[: math.ceil(round(fraction * len(names), 6))])


def unseen_ids(groups: Mapping[str, str], warmup_fraction: float, seed: int) -> frozenset[str]:
    """Of the training part `groups` (id → group) those that are left to the iterations, by whole groups."""
    return validation_ids(groups, 1 - warmup_fraction, derive_seed(seed, "unseen"))


def validation_shortfall(groups: Mapping[str, str], held_back: Collection[str], fraction: float) -> str:
    """Why the part that `validation_ids` drew has less than half of what was asked for; empty when it has not."""
    exact, wanted = fraction * len(groups), _wanted(groups, fraction)
    if len(held_back) >= exact / 2:
        return ""
    if not wanted:
        return f"no example validates: {fraction:.0%} of {len(groups)} examples are less than one"
    name, size = max(Counter(groups.values()).items(), key=lambda group: (group[1], group[0]))
    return (
        f"{len(held_back)} of {len(groups)} examples validate, where {wanted} were asked for: near-duplicates and the "
        f"turns of one conversation stay together, and the largest such group has {size} examples, {name} among them"
    )


def _wanted(groups: Mapping[str, str], fraction: float) -> int:
    return int(round(fraction * len(groups), 6))

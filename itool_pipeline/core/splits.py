"""Training and validation parts of the data, near-duplicates kept together (Section 4.1 warms up on 90%)."""

from __future__ import annotations

from collections.abc import Mapping

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
    wanted, taken = int(round(fraction * len(groups), 6)), list[str]()
    for i in order:
        if len(taken) + len(members[names[i]]) <= wanted:
            taken += members[names[i]]
    return frozenset(taken)

"""What is drawn of a pool: by category and seed, so that a larger draw holds the smaller; and what does not fit."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from itool_pipeline.core.types import Example

TokenCount = Callable[[Example], int | None]
"""Tokens of an example's prompt, as the experiment's model sees it; None when its chat template refuses it."""

TOO_LONG = "the prompt is longer than the limit"
NO_PROMPT = "the model's chat template refuses the conversation"


class InCategory(Protocol):
    """What is drawn: anything with an id and a category."""

    @property
    def id(self) -> str: ...

    @property
    def category(self) -> str: ...


Drawn = TypeVar("Drawn", bound=InCategory)


def choose_cases(
    pool: Sequence[Example],
    categories: Collection[str],
    max_tokens: int,
    limit: int | None,
    seed: int,
    token_count: TokenCount | None,
) -> tuple[tuple[Example, ...], Counter[str]]:
    """At most `limit` cases of each category, out of the pool; and how many do not fit, by reason."""
    wanted = [e for e in pool if e.category in categories]
    unfit = {e.id: why_unfit(e, max_tokens, token_count) for e in wanted}
    short = [e for e in wanted if not unfit[e.id]]
    return draw_at_most(short, limit, seed), Counter(filter(None, unfit.values()))


def draw_at_most(examples: Sequence[Drawn], limit: int | None, seed: int) -> tuple[Drawn, ...]:
    """At most so many of each category, in the order given; all of them without a limit."""
    sizes = Counter(example.category for example in examples)
    quota = {category: size if limit is None else min(size, limit) for category, size in sizes.items()}
    drawn = draw_ids({example.id: example.category for example in examples}, quota, seed)
    return tuple(example for example in examples if example.id in drawn)


def draw_ids(categories: Mapping[str, str], quota: Mapping[str, int], seed: int) -> frozenset[str]:
    """So many ids of each category, out of id → category. A larger quota draws the same ids and more."""
    members: dict[str, list[str]] = defaultdict(list)
    for identity, category in categories.items():
        members[category].append(identity)
    drawn: set[str] = set()
    for category, ids in members.items():
        ids.sort()
        random.Random(f"{seed}/{category}").shuffle(ids)
        drawn.update(ids[: quota.get(category, 0)])
    return frozenset(drawn)


def quotas(sizes: Mapping[str, int], limit: int | None) -> dict[str, int]:
    """How many of each category make up `limit` in the categories' own proportions, by the largest remainder."""
    total = sum(sizes.values())
    if limit is None or limit >= total:
        return dict(sizes)
    exact = {category: limit * size / total for category, size in sizes.items()}
    quota = {category: int(share) for category, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda category: (quota[category] - exact[category], category))
    for category in by_remainder[: limit - sum(quota.values())]:
        quota[category] += 1
    return quota


def why_unfit(example: Example, limit: int, token_count: TokenCount | None) -> str:
    """Why the example's prompt cannot be used; empty when it can."""
    tokens = token_count(example) if token_count else 0
    return NO_PROMPT if tokens is None else TOO_LONG if tokens > limit else ""

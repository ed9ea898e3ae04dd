"""From an experiment's config to the examples it trains on and the cases it is scored on."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from itool_pipeline.config import BfclConfig, BfclHalfData, ToolAceData
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import halves, load_bfcl
from itool_pipeline.data.hub import download_dataset_file
from itool_pipeline.data.rows import Refused, Rows, excerpt
from itool_pipeline.data.toolace import load_toolace
from itool_pipeline.data.wheels import BFCL, FetchError, fetch

TokenCount = Callable[[Example], int]
"""Tokens of an example's prompt, as the experiment's model sees it."""


@dataclass(frozen=True, slots=True)
class LoadedData:
    """What an experiment works with.

    train       examples to train on
    bfcl_cases  cases to be scored; with `bfcl_half`, of the half that is not trained on
    refused     rows of the sources that are no examples
    left_out    examples that the experiment's limits exclude: a prompt that is too long, no answer to learn from
    """

    train: tuple[Example, ...]
    bfcl_cases: tuple[Example, ...]
    refused: tuple[Refused, ...]
    left_out: tuple[Refused, ...]


def load_data(
    data: BfclHalfData | ToolAceData,
    bfcl: BfclConfig,
    downloads: Path,
    seed: int,
    *,
    token_count: TokenCount | None = None,
) -> LoadedData:
    """Read the sources, divide them, and apply the limits of the config. Without `token_count` no prompt is too long.

    The halves of BFCL depend on the seed alone, so experiments with one seed agree on what is held out.

    Raises FetchError when something cannot be downloaded or found, ValueError for a file in the wrong layout.
    """
    benchmark = load_bfcl(fetch(BFCL, downloads))
    train_half, held_out = halves(benchmark.examples, seed)
    if isinstance(data, BfclHalfData):
        rows = Rows(tuple(e for e in train_half if e.category in data.categories), benchmark.refused)
        pool = held_out
    else:
        toolace = load_toolace(_toolace_file(data))
        rows = Rows(toolace.examples, (*toolace.refused, *benchmark.refused))
        pool = benchmark.examples
    train, no_answer = _with_answer(rows.examples)
    train, too_long = _short_enough(train, data.max_prompt_tokens, token_count)
    cases, too_long_cases = choose_cases(pool, bfcl, seed, token_count)
    return LoadedData(
        train=draw(train, quotas(train, data.train_limit), seed),
        bfcl_cases=cases,
        refused=rows.refused,
        left_out=(*no_answer, *too_long, *too_long_cases),
    )


def choose_cases(
    pool: Sequence[Example], bfcl: BfclConfig, seed: int, token_count: TokenCount | None
) -> tuple[tuple[Example, ...], list[Refused]]:
    """The cases that the config asks for, out of the held-out pool; and those left out because they are too long."""
    short, too_long = _short_enough(
        [e for e in pool if e.category in bfcl.categories], bfcl.max_prompt_tokens, token_count
    )
    return draw_at_most(short, bfcl.cases_per_category, seed), too_long


def _toolace_file(data: ToolAceData) -> Path:
    if data.path is None:
        return download_dataset_file(data.name, data.revision, "data.json")
    path = Path(data.path).expanduser()
    if not path.is_file():
        raise FetchError(f"There is no file {path}. Correct data.path in the experiment, or remove it to ask the hub.")
    return path


def _with_answer(examples: Iterable[Example]) -> tuple[list[Example], list[Refused]]:
    kept, refused = [], []
    for example in examples:
        if example.response:
            kept.append(example)
        else:
            refused.append(_left_out(example, "no answer to learn from"))
    return kept, refused


def _short_enough(
    examples: Sequence[Example], limit: int, token_count: TokenCount | None
) -> tuple[list[Example], list[Refused]]:
    if token_count is None:
        return list(examples), []
    kept, refused = [], []
    for example in examples:
        tokens = token_count(example)
        if tokens <= limit:
            kept.append(example)
        else:
            refused.append(_left_out(example, f"prompt of {tokens} tokens is longer than {limit}"))
    return kept, refused


def _left_out(example: Example, reason: str) -> Refused:
    return Refused(example.source, f"{example.category}/{example.id}", reason, excerpt(example.question))


def quotas(examples: Iterable[Example], limit: int | None) -> dict[str, int]:
    """How many of each category make up `limit` in the categories' own proportions, by the largest remainder."""
    sizes = Counter(example.category for example in examples)
    total = sum(sizes.values())
    if limit is None or limit >= total:
        return dict(sizes)
    exact = {category: limit * size / total for category, size in sizes.items()}
    quota = {category: int(share) for category, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda category: (quota[category] - exact[category], category))
    for category in by_remainder[: limit - sum(quota.values())]:
        quota[category] += 1
    return quota


class InCategory(Protocol):
    """What is drawn: anything with an id and a category."""

    @property
    def id(self) -> str: ...

    @property
    def category(self) -> str: ...


Drawn = TypeVar("Drawn", bound=InCategory)


def draw_at_most(examples: Sequence[Drawn], limit: int | None, seed: int) -> tuple[Drawn, ...]:
    """At most so many of each category, in the order given; all of them without a limit."""
    sizes = Counter(example.category for example in examples)
    return draw(examples, {c: size if limit is None else min(size, limit) for c, size in sizes.items()}, seed)


def draw(examples: Sequence[Drawn], quota: Mapping[str, int], seed: int) -> tuple[Drawn, ...]:
    """So many of each category, in the order given. A larger quota draws the same examples and more."""
    members: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        members[example.category].append(example.id)
    drawn: set[str] = set()
    for category, ids in members.items():
        ids.sort()
        random.Random(f"{seed}/{category}").shuffle(ids)
        drawn.update(ids[: quota.get(category, 0)])
    return tuple(example for example in examples if example.id in drawn)

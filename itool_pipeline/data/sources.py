"""From an experiment's config to the examples it trains on and the cases it is scored on.

A data set is read twice, a row at a time: once to see what is in it, once for the examples that were chosen. Ids,
categories and digests are held, the examples are not.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from itool_pipeline.config import ApiBankConfig, BfclConfig, BfclHalfData, DataConfig, JsonlData
from itool_pipeline.core.types import Example, Progress, no_progress
from itool_pipeline.data.api_bank import load_api_bank
from itool_pipeline.data.api_bank_hub import FILES, load_api_bank_rows
from itool_pipeline.data.bfcl import SOURCE as BENCHMARK
from itool_pipeline.data.bfcl import halves, load_bfcl
from itool_pipeline.data.bfcl_multi_turn import MultiTurnCase, load_multi_turn
from itool_pipeline.data.chat_jsonl import read_chat_jsonl
from itool_pipeline.data.hub import commit_of, download_dataset_file
from itool_pipeline.data.near_duplicates import Groups, signatures, signatures_of_turns
from itool_pipeline.data.rows import Quarantined, Row, Rows, Source
from itool_pipeline.data.toolace import read_toolace
from itool_pipeline.data.wheels import BFCL, FetchError, fetch_wheel
from itool_pipeline.data.xlam import read_xlam

TokenCount = Callable[[Example], int | None]
"""Tokens of an example's prompt, as the experiment's model sees it; None when its chat template refuses it."""

FileReader = Callable[[Path, Progress], Iterator[Row]]

READERS: Mapping[str, FileReader] = {"toolace": read_toolace, "xlam": read_xlam, "jsonl": read_chat_jsonl}
"""How a local file of each type of data is read. The type is also the source's name in examples and quarantine."""

HUB_FILES = {"toolace": "data.json", "xlam": "xlam_function_calling_60k.json"}
"""The file that a data set is on the hub."""

ASKED_IN_TEST = "BFCL asks nearly the same in a test"
NO_ANSWER = "no answer to learn from, or none that its tools allow"
TOO_LONG = "the prompt is longer than the limit"
TOO_LONG_WITH_ANSWER = "prompt and answer are longer than the model's context"
NO_PROMPT = "the model's chat template refuses the conversation"
NOT_DRAWN = "not drawn: data.train_limit"
NOT_ASKED_FOR = "neither trained on nor scored by this experiment"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The examples to train on, read anew from their source by each `iter`.

    groups  id → group of near-duplicates, for each chosen example
    """

    source: Source
    groups: Mapping[str, str]
    progress: Progress = no_progress

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Example]:
        for row in self.source(self.progress):
            if isinstance(row, Example) and row.id in self.groups:
                yield replace(row, group=self.groups[row.id])


@dataclass(frozen=True, slots=True)
class LoadedData:
    """What an experiment works with. For each source, read = trained on + scored + left out.

    source       what is trained on
    commit       of the data set on the hub; empty for a local file
    train        examples to train on
    bfcl_cases   cases to be scored; with `bfcl_half`, of the half that is not trained on
    quarantined  rows of the sources that are no examples
    read         source → examples in it
    left_out     (source, reason) → examples that the experiment's limits exclude
    """

    source: str
    commit: str
    train: Chosen
    bfcl_cases: tuple[Example, ...]
    quarantined: tuple[Quarantined, ...]
    read: Mapping[str, int]
    left_out: Mapping[tuple[str, str], int]


def load_data(
    data: DataConfig,
    bfcl: BfclConfig,
    downloads: Path,
    seed: int,
    *,
    token_count: TokenCount | None = None,
    fits: Callable[[Example], bool] = lambda example: True,
    progress: Callable[[str], Progress] = lambda unit: no_progress,
) -> LoadedData:
    """Read the sources, divide them, and apply the limits of the config. Without `token_count` no prompt is too long.

    fits  whether the model can read the example with its answer at once

    The halves of BFCL depend on the seed alone, so experiments with one seed agree on what is held out. What
    nearly equals a question of the test is not trained on. `progress` makes a callback for work that is counted in the
    unit it is given.

    Raises FetchError when something cannot be downloaded or found, UnreadableFile for a file in the wrong layout.
    """
    wheel = fetch_wheel(BFCL, downloads)
    benchmark = load_bfcl(wheel)
    path = local_file(data)
    half, pool, source = _divided(data, path, benchmark.examples, seed)
    asked = _asked(pool, load_multi_turn(wheel))
    survey = _survey(source, data, asked, token_count, fits, progress("kB of training data looked through"))
    drawn = draw(survey.kept, quotas(Counter(survey.kept.values()), data.train_limit), seed)
    asked_for = (bfcl.categories, bfcl.max_prompt_tokens, bfcl.cases_per_category)
    cases, unfit = choose_cases(pool, *asked_for, seed, token_count)
    groups = {example.id: example.group for example in half} if half else survey.groups.names()

    read, left_out = Counter(survey.read), Counter(survey.left_out)
    read[BENCHMARK] = len(benchmark.examples)
    left_out.update({(BENCHMARK, reason): count for reason, count in unfit.items()})
    left_out[BENCHMARK, NOT_ASKED_FOR] += len(benchmark.examples) - len(half) - len(cases) - unfit.total()
    name = BENCHMARK if isinstance(data, BfclHalfData) else data.type
    left_out[name, NOT_DRAWN] += len(survey.kept) - len(drawn)
    return LoadedData(
        source=name,
        commit=commit_of(path) if path else "",
        train=Chosen(source, {key: groups[key] for key in drawn}, progress("kB of training data read")),
        bfcl_cases=cases,
        quarantined=(*survey.quarantined, *benchmark.quarantined),
        read=read,
        left_out=+left_out,  # without the zeros
    )


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
    unfit = {e.id: _unfit(e, max_tokens, token_count) for e in wanted}
    short = [e for e in wanted if not unfit[e.id]]
    return draw_at_most(short, limit, seed), Counter(filter(None, unfit.values()))


def load_api_bank_pool(config: ApiBankConfig) -> Rows:
    """Every case of both levels, from the local copy or from the hub; and what is quarantined, with the reason.

    Raises FetchError when something cannot be found or downloaded, UnreadableFile for a file in the wrong layout.
    """
    if config.path is not None:
        return load_api_bank(Path(config.path).expanduser())
    return load_api_bank_rows(
        {level: download_dataset_file(config.name, config.revision, file) for level, file in FILES.items()}
    )


def local_file(data: DataConfig) -> Path | None:
    """The file that is trained on, fetched from the hub unless it is local; None for data out of the wheel.

    Raises FetchError when it is not there or cannot be fetched.
    """
    if isinstance(data, BfclHalfData):
        return None
    if data.path is None and not isinstance(data, JsonlData):
        return download_dataset_file(data.name, data.revision, HUB_FILES[data.type])
    path = Path(str(data.path)).expanduser()
    if not path.is_file():
        remedy = "" if isinstance(data, JsonlData) else ", or remove it to ask the hub"
        raise FetchError(f"There is no file {path}. Correct data.path in the experiment{remedy}.")
    return path


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
    quota = {category: size if limit is None else min(size, limit) for category, size in sizes.items()}
    drawn = draw({example.id: example.category for example in examples}, quota, seed)
    return tuple(example for example in examples if example.id in drawn)


def draw(categories: Mapping[str, str], quota: Mapping[str, int], seed: int) -> frozenset[str]:
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


def _divided(
    data: DataConfig, path: Path | None, benchmark: Sequence[Example], seed: int
) -> tuple[Sequence[Example], Sequence[Example], Source]:
    """The benchmark's examples to train on, those to be scored, and the source to train on."""
    if path is not None:
        return (), benchmark, partial(READERS[data.type], path)
    train, held_out = halves(benchmark, seed)
    half = [e for e in train if isinstance(data, BfclHalfData) and e.category in data.categories]
    return half, held_out, lambda progress: iter(half)


def _asked(pool: Iterable[Example], conversations: Iterable[MultiTurnCase]) -> frozenset[bytes]:
    """The signatures of all that BFCL may ask in a test."""
    examples = chain(pool, *(case.questions() for case in conversations))
    return frozenset(signature for example in examples for signature in signatures(example))


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is in a source. `kept` has the category of each example within the limits, by id."""

    kept: dict[str, str]
    groups: Groups
    read: Counter[str]
    quarantined: list[Quarantined]
    left_out: Counter[tuple[str, str]]


def _survey(
    source: Source,
    data: DataConfig,
    asked: frozenset[bytes],
    token_count: TokenCount | None,
    fits: Callable[[Example], bool],
    progress: Progress,
) -> _Survey:
    survey = _Survey({}, Groups(), Counter(), [], Counter())
    for row in source(progress):
        if isinstance(row, Quarantined):
            survey.quarantined.append(row)
            continue
        survey.read[row.source] += 1
        survey.groups.add(row)
        if not asked.isdisjoint(signatures_of_turns(row)):
            survey.left_out[row.source, ASKED_IN_TEST] += 1
        elif not row.response:
            survey.left_out[row.source, NO_ANSWER] += 1
        elif reason := _unfit(row, data.max_prompt_tokens, token_count):
            survey.left_out[row.source, reason] += 1
        elif not fits(row):
            survey.left_out[row.source, TOO_LONG_WITH_ANSWER] += 1
        else:
            survey.kept[row.id] = row.category
    return survey


def _unfit(example: Example, limit: int, token_count: TokenCount | None) -> str:
    """Why the example's prompt cannot be used; empty when it can."""
    tokens = token_count(example) if token_count else 0
    return NO_PROMPT if tokens is None else TOO_LONG if tokens > limit else ""

"""How much there is to read, train on and answer: of the artifacts that are there, and else of the config's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from itool_pipeline.benchmarks.types import Benchmark
from itool_pipeline.config import BFCL_MULTI_TURN, BfclHalfData, Experiment
from itool_pipeline.steps.artifact_files import POOL_FILE, SPLITS_FILE, TRAIN_FILE
from itool_pipeline.steps.asset_graph import BY_NAME, cases_asset, trained_stages
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.table_files import read_table_rows

Find = Callable[[str], Artifact | None]
"""Asset of the experiment → its finished artifact, or None."""

PUBLISHED = {"bfcl_half": 1_820, "toolace": 11_300, "xlam": 60_000, "jsonl": 1_000}
"""Examples in the data sets, where `train_limit` says nothing; of one's own file, which is not read here, a guess."""
CASES = {"bfcl": 3_641, "api_bank": 500, "calls": 1_000}
"""Cases of the benchmarks, where nothing limits them; of one's own calls a guess."""
ANSWER_TOKENS = 40
"""Of a gold answer, where no example is there: BFCL's have 25, several calls at once more. Assumed."""
GRADE_TOKENS = 120
"""Around a response that is graded, beside its prompt, where no example is there. Assumed."""
CONVERSATIONS, CONVERSATION_PROMPT, CONVERSATION_ANSWERS = 200, 6_000, 12
"""Of a multi-turn category of BFCL: conversations, tokens that one has at its end, and answers in it. Assumed."""
_SAMPLE = 2_000
"""Prompts that are held against one another: what they share hardly depends on how many are looked at."""


@dataclass(frozen=True, slots=True)
class Items:
    """So many texts, with the mean number of tokens in their prompts and answers.

    distinct  share of the prompts' tokens that is left when what several begin with is counted once
    common    tokens that all prompts begin with
    """

    count: float
    prompt: float
    answer: float
    distinct: float = 1.0
    common: int = 0

    def part(self, count: float) -> Items:
        """So many of them."""
        return Items(count, self.prompt, self.answer, self.distinct, self.common)

    def behind(self, tokens: float) -> Items:
        """The same with so many tokens of their own between prompt and answer, which answers are given."""
        prompt = self.prompt + tokens
        return replace(self, prompt=prompt, distinct=(self.prompt * self.distinct + tokens) / prompt)

    @property
    def longest(self) -> float:
        return self.prompt + self.answer


NONE = Items(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Basis:
    """The assets that the numbers are counted in, and those that are not there, so that limits stand for them."""

    there: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What an experiment works with.

    stages  warm-up stage that trains → what it trains on
    grade   tokens around a graded response, beside its prompt
    cases   benchmark → cases of one prompt; `answer` is of a gold answer
    """

    stages: Mapping[str, Items]
    validation: Items
    buffer: Items
    grade: float
    cases: Mapping[str, Items]
    basis: Basis

    @property
    def trained(self) -> Items:
        """All that the warm-up trains on."""
        return joined(self.stages.values())


def joined(parts: Iterable[Items]) -> Items:
    """All of them as one."""
    some = [part for part in parts if part.count]
    if not some:
        return NONE
    count = sum(part.count for part in some)
    prompts, answers = (sum(part.count * getattr(part, name) for part in some) for name in ("prompt", "answer"))
    distinct = sum(part.count * part.prompt * part.distinct for part in some) / prompts
    return Items(count, prompts / count, answers / count, distinct, min(part.common for part in some))


def material_of(e: Experiment, find: Find, benchmarks: Sequence[str]) -> Material:
    """What there is for the experiment."""
    examples, splits = find("examples"), find("splits")
    whole, grade = _examples(examples.file(TRAIN_FILE)) if examples else (_by_limits(e), float(GRADE_TOKENS))
    if examples and splits:
        stages, validation, pool = _by_splits(e, examples.file(TRAIN_FILE), splits.file(SPLITS_FILE), whole)
    else:
        stages, validation, pool = _by_shares(e, whole)
    cases = {name: _cases(e, BY_NAME[name], find(cases_asset(name)), whole.answer) for name in benchmarks}
    sources = ("examples", "splits", *map(cases_asset, benchmarks))
    basis = Basis(tuple(s for s in sources if find(s)), tuple(s for s in sources if not find(s)))
    buffer = pool.part(e.replay_buffer.fraction * pool.count)
    return Material(stages, validation, buffer, grade, cases, basis)


def _by_limits(e: Experiment) -> Items:
    known = PUBLISHED[e.data.type]
    return Items(min(e.data.train_limit or known, known), e.data.max_prompt_tokens, ANSWER_TOKENS)


@lru_cache(maxsize=64)
def _examples(file: Path) -> tuple[Items, float]:
    rows = list(read_table_rows(file, ["prompt_tokens"]))
    distinct, common = shared_beginnings(_some(file, "prompt_ids"))
    answers = [len(ids) for ids in _some(file, "response_ids")]
    before, after = ([len(ids) for ids in _some(file, name)] for name in ("grade_before_ids", "grade_after_ids"))
    prompt = fmean(row["prompt_tokens"] for row in rows)
    grade = max(0.0, fmean(before) + fmean(after) - prompt)
    return Items(len(rows), prompt, fmean(answers), distinct, common), grade


def _some(file: Path, column: str) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for row in read_table_rows(file, [column]):
        if row[column] is not None:
            found.append(tuple(row[column]))
        if len(found) == _SAMPLE:
            break
    return found


def shared_beginnings(prompts: Sequence[tuple[int, ...]]) -> tuple[float, int]:
    """(share of their tokens that is left when each distinct prefix is counted once, tokens that all begin with)."""
    order = sorted(prompts)
    total = sum(map(len, order))
    if not total:
        return 1.0, 0
    again = sum(_alike(one, other) for one, other in pairwise(order))
    return (total - again) / total, _alike(order[0], order[-1])


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    places = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(places) if a != b), min(len(one), len(other)))


def _by_splits(e: Experiment, train: Path, splits: Path, whole: Items) -> tuple[dict[str, Items], Items, Items]:
    """What each stage trains on, what validates, and what the buffer is drawn from."""
    length = _lengths(train)
    rows = list(read_table_rows(splits))

    def items(*where: str, stage: str | None = None) -> Items:
        found = [
            length[row["example_id"]]
            for row in rows
            if row["split"] in where and stage in (None, row["difficulty"]) and row["example_id"] in length
        ]
        if not found:
            return NONE
        prompt, answer = (fmean(pair[place] for pair in found) for place in (0, 1))
        return Items(len(found), prompt, answer, whole.distinct, whole.common)

    mixed = e.warmup.curriculum == "mixed"
    stages = {stage: items("train", stage=None if mixed else stage) for stage in trained_stages(e)}
    unseen = items("unseen")
    return stages, items("validation"), unseen if unseen.count else items("train")


@lru_cache(maxsize=64)
def _lengths(file: Path) -> dict[str, tuple[int, int]]:
    rows = read_table_rows(file, ["example_id", "prompt_tokens", "response_ids"])
    return {row["example_id"]: (row["prompt_tokens"], len(row["response_ids"])) for row in rows}


def _by_shares(e: Experiment, whole: Items) -> tuple[dict[str, Items], Items, Items]:
    """The same where no example has its difficulty yet: the stages are taken to be of equal size."""
    validation = e.split.validation_fraction * whole.count
    training = (whole.count - validation) * e.split.train_fraction
    seen, stages = training * e.split.warmup_fraction, trained_stages(e)
    unseen = training - seen
    return {s: whole.part(seen / len(stages)) for s in stages}, whole.part(validation), whole.part(unseen or seen)


def _cases(e: Experiment, benchmark: Benchmark, pool: Artifact | None, answer: float) -> Items:  # type: ignore[type-arg]
    """The cases that the experiment asks for, conversations among them."""
    asked = benchmark.settings(e)
    assert asked is not None
    named: tuple[str, ...] | None = getattr(asked, "categories", None) or getattr(asked, "levels", None)
    each: int | None = getattr(asked, "cases_per_category", None) or getattr(asked, "cases_per_level", None)
    whole: int | None = getattr(asked, "cases", None)
    talks = [name for name in named or () if name in BFCL_MULTI_TURN]
    limit = getattr(asked, "conversations_per_category", None) or each or CONVERSATIONS
    talked = Items(len(talks) * min(limit, CONVERSATIONS), CONVERSATION_PROMPT, answer * CONVERSATION_ANSWERS)
    if pool is not None:
        found = _pool(pool.file(POOL_FILE), named, asked.max_prompt_tokens, each, whole)
        return joined([Items(found.count, found.prompt, answer, found.distinct, found.common), talked])
    known = CASES[benchmark.name] // (2 if isinstance(e.data, BfclHalfData) and benchmark.reserved else 1)
    bounded = min(known, each * (len(named) - len(talks)) if each and named else known, whole or known)
    return joined([Items(bounded, asked.max_prompt_tokens, answer), talked])


@lru_cache(maxsize=64)
def _pool(file: Path, named: tuple[str, ...] | None, longest: int, each: int | None, whole: int | None) -> Items:
    """The first of each category, for those that are drawn by seed; what is asked is as many, and about as long."""
    groups: dict[str, list[tuple[int, ...]]] = {}
    for row in read_table_rows(file, ["category", "prompt_ids"]):
        ids = row["prompt_ids"]
        if ids is not None and len(ids) <= longest and (named is None or row["category"] in named):
            groups.setdefault(row["category"], []).append(tuple(ids))
    prompts = [ids for group in groups.values() for ids in group[:each]][:whole]
    if not prompts:
        return NONE
    distinct, common = shared_beginnings(prompts[:_SAMPLE])
    return Items(len(prompts), fmean(map(len, prompts)), 0, distinct, common)

"""What a benchmark is: where its cases are from, how they are answered and judged, and what must not leak.

Everything else is the same for all and lies in `steps`: cases are an asset `<name>_cases`, scores the assets
`<name>/<checkpoint>`; their fingerprints, tables, checks, the report's pages and the command line ask a benchmark for
what is its own. A benchmark never sees torch or the store: it is handed an `Examinee`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from itool_pipeline.benchmarks.second_opinion import SecondOpinion
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BenchmarkConfig, Experiment
from itool_pipeline.core.types import Example, Progress
from itool_pipeline.data.drawing import InCategory
from itool_pipeline.data.near_duplicates import signatures
from itool_pipeline.data.rows import Rows
from itool_pipeline.judges.mistakes import Mistake

Prompt: TypeAlias = Any
"""What an examinee shows its model: token ids, or messages to one that is served. Its `len` is in tokens."""
Answers = dict[str, str]
"""What the model said, by case."""

CaseT = TypeVar("CaseT", bound=InCategory)
ConfigT = TypeVar("ConfigT", bound=BenchmarkConfig)


class Examinee(Protocol):
    """The model that is examined, by its greedy answers. Every finished batch survives a kill and is not asked again.

    context      tokens that it can read at once; None when it states none
    tools_apart  whether it is handed an example's tools beside the messages, and not written in them
    syntax       how it writes calls
    instructed   whether our own words tell it how to call; else its prompts are its chat template's, untouched
    """

    @property
    def context(self) -> int | None: ...

    @property
    def tools_apart(self) -> bool: ...

    @property
    def syntax(self) -> CallSyntax: ...

    @property
    def instructed(self) -> bool: ...

    def prompt(self, example: Example) -> Prompt:
        """The example's prompt, as the model is shown it."""

    def answer_each(self, examples: Sequence[Example]) -> Answers:
        """One answer to each, by id. Raises ValueError when the longest prompt leaves no room for an answer."""

    def answer_round(self, name: str, prompts: Mapping[str, Prompt]) -> Answers:
        """The answers to prompts that were made before, by key. `name` tells one round of questions from another."""

    def progress(self, unit: str) -> Progress:
        """A callback that tells people how far the work is."""

    def say(self, line: str) -> None:
        """A line for people."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Every case that has one prompt, and its length: case id → tokens, None where the template refuses it."""

    examples: Sequence[Example]
    tokens: Mapping[str, int | None]

    def sizes(self) -> Counter[str]:
        """Category → cases."""
        return Counter(example.category for example in self.examples)


@dataclass(frozen=True, slots=True)
class Drawn(Generic[CaseT]):
    """The cases that the experiment asks for, and how many of those it asks for cannot be answered, by reason."""

    cases: Sequence[CaseT]
    unfit: Counter[str]


@dataclass(frozen=True, slots=True)
class Decision:
    """One case decided. `error_type` and `error` are the checker's own, `mistake` is the paper's type (Fig. 3)."""

    correct: bool
    error_type: str = ""
    error: str = ""
    mistake: Mistake | None = None


@dataclass(frozen=True, slots=True)
class Decided(Generic[CaseT]):
    """A case with what the model said, and the decision. Of a conversation `output` is all that it said, as JSON."""

    case: CaseT
    output: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A number over many cases, by one of the benchmark's rules.

    accuracy  in [0, 1]; None when anything that it is made of was not evaluated: `missing` names that
    correct, total  what it is the share of; None for a mean of shares
    """

    rule: str
    part: str
    accuracy: float | None
    missing: tuple[str, ...] = ()
    correct: int | None = None
    total: int | None = None


def share(rule: str, part: str, correct: int, total: int) -> Aggregate:
    """A plain share; missing when there is nothing to count."""
    return Aggregate(rule, part, correct / total if total else None, () if total else (part,), correct, total)


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A check of one's own on the rows of `cases` of a scored checkpoint. `find` gives (problems, rows looked at)."""

    name: str
    description: str
    columns: tuple[str, ...]
    find: Callable[[Iterable[Mapping[str, Any]]], tuple[list[str], int]]


class Benchmark(ABC, Generic[CaseT]):
    """One benchmark; its implementation is a folder beside this module, and it is named in `registry`.

    name           of its assets, and of its section in `evaluation`; a section of None is not asked for
    title          what is scored, for people, as in `Leaderboard: held-out BFCL cases`
    about          the asset of its cases, in one sentence
    rules          what people should know who read its aggregates
    categories     in their order; others follow by name
    source_keys    keys of its section that say where the cases are from; the others say what is asked and how
    reserved       nothing that it asks may be trained on by any experiment, whether that asks for it or not
    second_opinion  its own command line, to hold our verdicts against
    cases_version, scores_version  raised by hand when a change of its code changes its cases or its scores
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    rules: ClassVar[str] = ""
    categories: ClassVar[tuple[str, ...]] = ()
    source_keys: ClassVar[frozenset[str]] = frozenset()
    reserved: ClassVar[bool] = False
    row_checks: ClassVar[tuple[RowCheck, ...]] = ()
    second_opinion: ClassVar[SecondOpinion | None] = None
    cases_version: ClassVar[str]
    scores_version: ClassVar[str]

    def settings(self, experiment: Experiment) -> BenchmarkConfig | None:
        """Its section of the config; None when the experiment does not ask for it."""
        section = getattr(experiment.evaluation, self.name)
        assert section is None or isinstance(section, BenchmarkConfig)
        return section

    def asked_section(self, experiment: Experiment, kind: type[ConfigT]) -> ConfigT:
        """Its section, of this kind, in an experiment that asks for it. Raises ValueError for one that does not."""
        section = self.settings(experiment)
        if not isinstance(section, kind):
            raise ValueError(f"experiment {experiment.name} has no evaluation.{self.name}")
        return section

    @abstractmethod
    def source(self, experiment: Experiment) -> Mapping[str, Any]:
        """What tells its source from any other: this enters the fingerprint of the asset with its cases."""

    def local_content(self, experiment: Experiment) -> str:
        """sha256 of the local files that the cases are read from; empty when there are none."""
        return ""

    def require_local_files(self, experiment: Experiment) -> None:
        """Raise an ActionableError when a local file that the cases are read from is not there. Reads nothing else."""

    @abstractmethod
    def load_cases(self, experiment: Experiment, downloads: Path) -> Rows:
        """Every case that has one prompt, and what is quarantined. `downloads` holds what was fetched before.

        Raises FetchError when something cannot be found or downloaded.
        """

    @abstractmethod
    def draw_cases(self, experiment: Experiment, pool: Pool, downloads: Path) -> Drawn[CaseT]:
        """The cases that the experiment asks for."""

    @abstractmethod
    def examine(
        self, experiment: Experiment, cases: Sequence[CaseT], examinee: Examinee, downloads: Path
    ) -> Iterator[Decided[CaseT]]:
        """Have each case answered, and decide it."""

    def aggregates(
        self, decided: Sequence[Decided[CaseT]], sizes: Mapping[str, int], syntax: CallSyntax = PYTHON_CALLS
    ) -> Sequence[Aggregate]:
        """Numbers beside those of the categories. `sizes`: category → cases in the pool, evaluated or not."""
        return ()

    def questions(self, experiment: Experiment, downloads: Path) -> Iterable[Example]:
        """All that may be asked in the test, out of its source; asked of a `reserved` benchmark only."""
        return self.load_cases(experiment, downloads).examples

    def case_signatures(self, case: Example) -> Collection[bytes]:
        """What a training example may not share with a case: see `data.near_duplicates`."""
        return signatures(case)

    def training_signatures(self, example: Example) -> Collection[bytes]:
        """The signatures of a training example that are held against those of the cases."""
        return signatures(example)

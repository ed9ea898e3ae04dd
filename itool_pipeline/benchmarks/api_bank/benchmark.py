"""API-Bank's levels 1 and 2: calls in dialogues, answered greedily and decided without execution (docs/api_bank.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.api_bank.dialogues import SEARCH, load_api_bank, require_local_copy, source_files
from itool_pipeline.benchmarks.api_bank.hub_rows import FILES, load_api_bank_rows
from itool_pipeline.benchmarks.api_bank.verdicts import CallVerdict, decide
from itool_pipeline.benchmarks.types import Aggregate, Benchmark, Decided, Decision, Drawn, Examinee, Pool, share
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import ApiBankConfig, Experiment
from itool_pipeline.core.types import Example
from itool_pipeline.data.drawing import choose_cases
from itool_pipeline.data.hub import download_dataset_file
from itool_pipeline.data.near_duplicates import signatures_of_conversation
from itool_pipeline.data.rows import Rows
from itool_pipeline.files.hashes import folder_sha256


class ApiBankBenchmark(Benchmark[Example]):
    """One case for each call."""

    name = "api_bank"
    title = "API-Bank's calls"
    about = "Every call of API-Bank's dialogues as a test case; those in quarantine, with reasons."
    rules = (
        "`exact` counts the calls whose every value equals the expected one, without the comparisons of the APIs; "
        "`kind_of_call` tells the searches for APIs from all other calls."
    )
    source_keys = frozenset({"path", "name", "revision"})
    cases_version = "5"
    scores_version = "5"

    def source(self, experiment: Experiment) -> Mapping[str, Any]:
        asked = self.asked_section(experiment, ApiBankConfig)
        return {"source": self.local_content(experiment) or f"{asked.name}@{asked.revision}"}

    def local_content(self, experiment: Experiment) -> str:
        """Of the names and contents of the files that are read."""
        asked = experiment.evaluation.api_bank
        if asked is None or asked.path is None:
            return ""
        directory = Path(asked.path).expanduser()
        return folder_sha256(directory, source_files(directory))

    def require_local_files(self, experiment: Experiment) -> None:
        path = self.asked_section(experiment, ApiBankConfig).path
        if path is not None:
            require_local_copy(Path(path).expanduser())

    def load_cases(self, experiment: Experiment, downloads: Path) -> Rows:
        return load_api_bank_pool(self.asked_section(experiment, ApiBankConfig))

    def draw_cases(self, experiment: Experiment, pool: Pool, downloads: Path) -> Drawn[Example]:
        asked, tokens = self.asked_section(experiment, ApiBankConfig), pool.tokens
        limits = (asked.levels, asked.max_prompt_tokens, asked.cases_per_level)
        return Drawn(*choose_cases(pool.examples, *limits, experiment.seed, lambda case: tokens[case.id]))

    def examine(
        self, experiment: Experiment, cases: Sequence[Example], examinee: Examinee, downloads: Path
    ) -> Iterator[Decided[Example]]:
        outputs = examinee.answer_each(cases)
        for case in cases:
            yield Decided(case, outputs[case.id], _decision(decide(case, outputs[case.id], examinee.syntax)))

    def aggregates(
        self, decided: Sequence[Decided[Example]], sizes: Mapping[str, int], syntax: CallSyntax = PYTHON_CALLS
    ) -> Sequence[Aggregate]:
        exact = [(one.case.category, decide(one.case, one.output, syntax).exact) for one in decided]
        searches = [one for one in decided if one.case.gold[0].name == SEARCH]
        others = [one for one in decided if one.case.gold[0].name != SEARCH]
        return [
            _exact("overall", [right for _, right in exact]),
            *(_exact(level, [r for of, r in exact if of == level]) for level in sorted({of for of, _ in exact})),
            *(
                share("kind_of_call", part, sum(one.decision.correct for one in those), len(those))
                for part, those in (("search", searches), ("other", others))
                if those
            ),
        ]

    def case_signatures(self, case: Example) -> Collection[bytes]:
        """All that the user says: many calls answer a turn like `Yes, please.`, a question only after others."""
        return signatures_of_conversation(case)

    def training_signatures(self, example: Example) -> Collection[bytes]:
        return signatures_of_conversation(example)


def load_api_bank_pool(config: ApiBankConfig) -> Rows:
    """Every case of both levels, from the local copy or from the hub; and what is quarantined, with the reason.

    Raises FetchError when something cannot be found or downloaded, UnreadableFile for a file in the wrong layout.
    """
    if config.path is not None:
        return load_api_bank(Path(config.path).expanduser())
    return load_api_bank_rows(
        {level: download_dataset_file(config.name, config.revision, file) for level, file in FILES.items()}
    )


def _exact(part: str, right: Sequence[bool]) -> Aggregate:
    return share("exact", part, sum(right), len(right))


def _decision(verdict: CallVerdict) -> Decision:
    return Decision(verdict.correct, verdict.error_type, verdict.error, verdict.mistake)

"""The users' own held-out calls: each assistant turn of their conversations is a case (docs/calls.md).

The file has the layout of `data: {type: jsonl}`. An answer is right when all its calls are, by the rules of the users'
own training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.types import Aggregate, Benchmark, Decided, Decision, Drawn, Examinee, Pool, share
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import Call, ToolCallSyntaxError
from itool_pipeline.config import CallsConfig, Experiment
from itool_pipeline.core.types import Example
from itool_pipeline.data.containers import missing_file
from itool_pipeline.data.drawing import draw_ids, quotas, why_unfit
from itool_pipeline.data.layouts import CHAT, layout_as_it_stands, read_any_layout
from itool_pipeline.data.near_duplicates import signatures_of_conversation
from itool_pipeline.data.rows import PassedOver, Quarantined, Rows
from itool_pipeline.errors import ActionableError
from itool_pipeline.files.hashes import file_sha256
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mismatch import unmatched_calls
from itool_pipeline.judges.mistakes import classify_mistake
from itool_pipeline.judges.rules import read_calls
from itool_pipeline.judges.verdicts import judge_response

SOURCE = "calls"


class OwnCallsError(ActionableError):
    """The file with the held-out calls is not there, or holds no case."""


class OwnCallsBenchmark(Benchmark[Example]):
    """Conversations are no training data's: their ids and groups have a name of their own."""

    name = "calls"
    title = "your own calls"
    about = "Every assistant turn of your held-out conversations as a test case; those in quarantine, with reasons."
    rules = (
        "`found` is the share of the expected calls that are among the answer's, call by call; `called in vain` that "
        "of the turns without a call in which one is made, `not called` that of the others in which none is."
    )
    categories = ("single_call", "several_calls", "no_call")
    source_keys = frozenset({"path"})
    cases_version = "4"
    scores_version = "2"

    def source(self, experiment: Experiment) -> Mapping[str, Any]:
        layout = layout_as_it_stands(_file(self.asked_section(experiment, CallsConfig)))
        # Chats, which were read before there were other layouts, have the fingerprint that they had.
        return {"content": self.local_content(experiment), **({} if layout == CHAT else {"layout": layout})}

    def local_content(self, experiment: Experiment) -> str:
        """Of the file; empty when it is not there, which reading it says, with what to do."""
        asked = experiment.evaluation.calls
        path = None if asked is None else _file(asked)
        return file_sha256(path) if path is not None and path.is_file() else ""

    def require_local_files(self, experiment: Experiment) -> None:
        path = _file(self.asked_section(experiment, CallsConfig))
        if not path.is_file():
            raise OwnCallsError(f"{missing_file(path)} Correct evaluation.calls.path in the experiment.")

    def load_cases(self, experiment: Experiment, downloads: Path) -> Rows:
        """Raises OwnCallsError when the file is missing or without a case."""
        self.require_local_files(experiment)
        path = _file(self.asked_section(experiment, CallsConfig))
        rows = list(read_any_layout(path))
        cases = tuple(_held_out(row) for row in rows if isinstance(row, Example))
        quarantined = tuple(_refused(row) for row in rows if isinstance(row, Quarantined | PassedOver))
        if not cases:
            first = "".join(f" The first, {row.position}: {row.reason}." for row in quarantined[:1])
            raise OwnCallsError(
                f"{path} (evaluation.calls.path) holds no case: {len(quarantined)} rows cannot be read.{first} Each "
                'line is one conversation, {"messages": […], "tools": […]}; docs/calls.md has an example.'
            )
        return Rows(cases, quarantined)

    def draw_cases(self, experiment: Experiment, pool: Pool, downloads: Path) -> Drawn[Example]:
        """At most `cases` of all that fit, in the proportions of the categories."""
        asked, tokens = self.asked_section(experiment, CallsConfig), pool.tokens
        unfit = {x.id: why_unfit(x, asked.max_prompt_tokens, lambda case: tokens[case.id]) for x in pool.examples}
        fit = {x.id: x.category for x in pool.examples if not unfit[x.id]}
        drawn = draw_ids(fit, quotas(Counter(fit.values()), asked.cases), experiment.seed)
        return Drawn([x for x in pool.examples if x.id in drawn], Counter(filter(None, unfit.values())))

    def examine(
        self, experiment: Experiment, cases: Sequence[Example], examinee: Examinee, downloads: Path
    ) -> Iterator[Decided[Example]]:
        outputs = examinee.answer_each(cases)
        for case in cases:
            yield Decided(case, outputs[case.id], decide_call(case, outputs[case.id], examinee.syntax))

    def aggregates(
        self, decided: Sequence[Decided[Example]], sizes: Mapping[str, int], syntax: CallSyntax = PYTHON_CALLS
    ) -> Sequence[Aggregate]:
        gold = [(len(one.case.gold), len(_missing(one.case, one.output, syntax))) for one in decided if one.case.gold]
        made = {
            expected: [bool(_calls(one.case, one.output, syntax)) for one in decided if bool(one.case.gold) is expected]
            for expected in (True, False)
        }
        return [
            share("calls", "found", sum(wanted - missing for wanted, missing in gold), sum(w for w, _ in gold)),
            share("calls", "not called", made[True].count(False), len(made[True])),
            share("calls", "called in vain", made[False].count(True), len(made[False])),
        ]

    def case_signatures(self, case: Example) -> Collection[bytes]:
        """All that the user says up to the turn: in a conversation a turn like `Yes.` asks nothing by itself."""
        return signatures_of_conversation(case)

    def training_signatures(self, example: Example) -> Collection[bytes]:
        return signatures_of_conversation(example)


def decide_call(case: Example, output: str, syntax: CallSyntax = PYTHON_CALLS) -> Decision:
    """Whether all calls are right; if not, why, with the paper's type of error."""
    verdict = judge_response(GOLD_RULES, case, output, syntax)
    mistake = None if verdict.correct else classify_mistake(GOLD_RULES, case, output, syntax)
    return Decision(verdict.correct, str(mistake.type) if mistake else "", verdict.error, mistake)


def _calls(case: Example, output: str, syntax: CallSyntax) -> tuple[Call, ...]:
    """The calls of an answer; none where it does not read as a list of calls."""
    try:
        return read_calls(GOLD_RULES, case, output, syntax)
    except ToolCallSyntaxError:
        return ()


def _missing(case: Example, output: str, syntax: CallSyntax) -> list[int]:
    """Which of the expected calls the answer does not make."""
    unmatched, _ = unmatched_calls(GOLD_RULES, case, _calls(case, output, syntax))
    return unmatched


def _held_out(example: Example) -> Example:
    """The case: one with the same place in a file of training data is another example."""
    named = (f"{SOURCE}_{name.partition('_')[2]}" for name in (example.id, example.group))
    identity, group = named
    return replace(example, id=identity, source=SOURCE, group=group)


def _refused(row: Quarantined | PassedOver) -> Quarantined:
    """Why a row or turn is no case; one that is marked as not to be learnt from is no model of an answer."""
    if isinstance(row, Quarantined):
        return replace(row, source=SOURCE)
    return Quarantined(SOURCE, row.position, row.reason, "")


def _file(asked: CallsConfig) -> Path:
    return Path(asked.path).expanduser()

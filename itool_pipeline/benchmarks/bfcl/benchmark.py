"""BFCL: held-out cases of one turn and whole conversations, decided by the benchmark's own checkers.

With `data: {type: bfcl_half}` one half of the questions of one turn is held out, with other data all of them. Nothing
is trained on conversations.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.aggregates import bfcl_aggregates
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase, load_multi_turn
from itool_pipeline.benchmarks.bfcl.official_checker import (
    CHECKER_RAISED,
    DECODER_REFUSED,
    CaseVerdict,
    OfficialChecker,
)
from itool_pipeline.benchmarks.bfcl.official_errors import error_type, official_mistake, possible_types
from itool_pipeline.benchmarks.bfcl.responder import judged_conversations
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.benchmarks.bfcl.second_opinion import BfclCommandLine
from itool_pipeline.benchmarks.types import Aggregate, Benchmark, Decided, Decision, Drawn, Examinee, Pool, RowCheck
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BFCL_CATEGORIES, BFCL_MULTI_TURN, BfclConfig, BfclHalfData, Experiment
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES, halves, load_bfcl
from itool_pipeline.data.drawing import choose_cases, draw_at_most
from itool_pipeline.data.near_duplicates import signatures_of_turns
from itool_pipeline.data.rows import Rows
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.judges.mistakes import Mistake, classify_mistake

Case = Example | MultiTurnCase


def errors_disagree(rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Errors whose type, read from calls and gold, is none that the official error may stand for; and rows compared.

    In the other languages and in conversations the type is read from the official error itself.
    """
    wrong = [row for row in rows if not row["correct"] and LANGUAGES.get(row["category"]) == "python"]
    problems = [
        f"case {row['case_id']}: ours {row['mistake']}, official {row['error_type']}"
        for row in wrong
        if row["mistake"] not in possible_types(row["error_type"])
    ]
    return problems, len(wrong)


class BfclBenchmark(Benchmark[Case]):
    """The pool has the cases of one turn; conversations are drawn out of the wheel."""

    name = "bfcl"
    title = "held-out BFCL cases"
    about = "Held-out BFCL cases of one turn; those in quarantine, with reasons."
    rules = (
        "v3 is the paper's. A part that was not evaluated is missing, not 0; `overall_partial` weighs what is there, "
        "and compares with no published number."
    )
    categories = tuple(BFCL_CATEGORIES)
    reserved = True
    row_checks = (
        RowCheck(
            "errors_agree",
            "The type of each error of a Python call, which we read from calls and gold, is one that the official "
            "error may stand for.",
            ("case_id", "category", "correct", "error_type", "mistake"),
            errors_disagree,
        ),
    )
    second_opinion = BfclCommandLine()
    cases_version = "1"
    scores_version = "7"

    def source(self, experiment: Experiment) -> Mapping[str, Any]:
        halved = isinstance(experiment.data, BfclHalfData)
        return {"wheel": BFCL.sha256, "halves": experiment.seed if halved else None}

    def load_cases(self, experiment: Experiment, downloads: Path) -> Rows:
        whole = load_bfcl(fetch_wheel(BFCL, downloads))
        if not isinstance(experiment.data, BfclHalfData):
            return whole
        _, held_out = halves(whole.examples, experiment.seed)
        return Rows(held_out, whole.quarantined)

    def questions(self, experiment: Experiment, downloads: Path) -> Iterable[Example]:
        """The held-out cases, and each of the user's messages in all conversations."""
        conversations = load_multi_turn(fetch_wheel(BFCL, downloads))
        pool = self.load_cases(experiment, downloads).examples
        return chain(pool, *(conversation.questions() for conversation in conversations))

    def draw_cases(self, experiment: Experiment, pool: Pool, downloads: Path) -> Drawn[Case]:
        asked, seed, tokens = self.asked_section(experiment, BfclConfig), experiment.seed, pool.tokens
        limits = (asked.categories, asked.max_prompt_tokens, asked.cases_per_category)
        examples, unfit = choose_cases(pool.examples, *limits, seed, lambda case: tokens[case.id])
        return Drawn((*examples, *drawn_conversations(asked, seed, downloads)), unfit)

    def examine(
        self, experiment: Experiment, cases: Sequence[Case], examinee: Examinee, downloads: Path
    ) -> Iterator[Decided[Case]]:
        directory = fetch_wheel(BFCL, downloads)
        examples = [case for case in cases if isinstance(case, Example)]
        syntax = examinee.syntax
        outputs, checker = examinee.answer_each(examples), OfficialChecker(directory, syntax)
        for example in examples:
            output = outputs[example.id]
            verdict = checker.check(example, output)
            yield Decided(example, output, _decision(verdict, _mistake(example, verdict, output, syntax)))
        conversations = [case for case in cases if isinstance(case, MultiTurnCase)]
        for case, result, verdict in judged_conversations(
            self.asked_section(experiment, BfclConfig), conversations, examinee, directory
        ):
            mistake = None if verdict.correct else Mistake(error_type(verdict))
            yield Decided(case, json.dumps(result, ensure_ascii=False), _decision(verdict, mistake))

    def aggregates(
        self, decided: Sequence[Decided[Case]], sizes: Mapping[str, int], syntax: CallSyntax = PYTHON_CALLS
    ) -> Sequence[Aggregate]:
        counts: dict[str, tuple[int, int]] = {}
        for one in decided:
            correct, total = counts.get(one.case.category, (0, 0))
            counts[one.case.category] = (correct + one.decision.correct, total + 1)
        return bfcl_aggregates(counts, sizes)

    def training_signatures(self, example: Example) -> Collection[bytes]:
        """Earlier turns too, where calls answer them."""
        return signatures_of_turns(example)


def drawn_conversations(asked: BfclConfig, seed: int, downloads: Path) -> tuple[MultiTurnCase, ...]:
    """The conversations that the config asks for."""
    wanted = [category for category in asked.categories if category in BFCL_MULTI_TURN]
    if not wanted:
        return ()
    limit = asked.conversations_per_category or asked.cases_per_category
    return draw_at_most(load_multi_turn(fetch_wheel(BFCL, downloads), wanted), limit, seed)


def _mistake(example: Example, verdict: CaseVerdict, output: str, syntax: CallSyntax = PYTHON_CALLS) -> Mistake | None:
    if verdict.correct:
        return None
    ours = example.language == "python" and verdict.error_type not in (DECODER_REFUSED, CHECKER_RAISED)
    if ours:
        found = classify_mistake(BFCL_RULES, example, output, syntax)
        # Of JSON that the official handler refuses only its own error tells the mistake.
        if syntax is PYTHON_CALLS or (found is not None and found.type in possible_types(verdict.error_type)):
            return found
    return official_mistake(example, verdict, output, syntax)


def _decision(verdict: CaseVerdict, mistake: Mistake | None) -> Decision:
    return Decision(verdict.correct, verdict.error_type, verdict.error, mistake)

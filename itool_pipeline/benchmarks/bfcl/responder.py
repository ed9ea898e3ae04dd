"""BFCL's conversations with the examined model: all side by side, each round in as few batches as it takes.

The model's answers are all that is kept between runs. A run that goes on hands them out again, and their calls are
executed again, until it is where the killed one was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from itool_pipeline.benchmarks.bfcl.conversations import (
    Conversation,
    MultiTurnBenchmark,
    hold,
    tools_sandbox,
)
from itool_pipeline.benchmarks.bfcl.multi_turn_cases import MultiTurnCase
from itool_pipeline.benchmarks.bfcl.official_checker import CaseVerdict
from itool_pipeline.benchmarks.second_opinion import Result
from itool_pipeline.benchmarks.types import Answers, Examinee
from itool_pipeline.config import BfclConfig

Judged = tuple[MultiTurnCase, Result, CaseVerdict]
"""A conversation, what came of it, and the official verdict."""


def judged_conversations(
    settings: BfclConfig, cases: Sequence[MultiTurnCase], examinee: Examinee, bfcl_dir: Path
) -> Iterator[Judged]:
    """Hold every conversation with the model, and let the official checker decide."""
    if not cases:
        return
    with tools_sandbox(bfcl_dir) as sandbox:
        benchmark = MultiTurnBenchmark.of(bfcl_dir, sandbox, examinee.syntax.name, instructed=examinee.instructed)
        results = hold(benchmark, cases, Responder(settings, examinee, len(cases)))
        yield from ((case, results[case.id], benchmark.check(case, results[case.id])) for case in cases)
        examinee.say(f"{len(cases)} conversations decided; their calls were kept from the network by {sandbox.network}")


class Responder:
    """The model's answers to all conversations that wait for one; what leaves no room for an answer is ended."""

    def __init__(self, settings: BfclConfig, examinee: Examinee, total: int) -> None:
        self._examinee = examinee
        self._total = total
        context, self._limit = settings.max_context_tokens, "max_context_tokens"
        positions = examinee.context
        if positions is not None and positions < context:
            context, self._limit = positions, "the model's context"
            examinee.say(f"conversations end at {positions} tokens, the model's context, before max_context_tokens")
        self._room = context - settings.max_new_tokens
        self._round = 0
        self._progress = examinee.progress("conversations ended")

    def __call__(self, waiting: Sequence[Conversation]) -> Answers:
        """Case id → answer; none for a conversation that was ended."""
        prompts = {}
        for conversation in waiting:
            prompt = self._examinee.prompt(conversation.example(tools_apart=self._examinee.tools_apart))
            if len(prompt) > self._room:
                conversation.stop(f"{len(prompt)} tokens leave no room for an answer ({self._limit})")
            else:
                prompts[conversation.case.id] = prompt
        answers = self._examinee.answer_round(f"multi_turn_{self._round:04d}", prompts)
        self._progress(self._total - len(waiting), self._total)
        self._round += 1
        return answers

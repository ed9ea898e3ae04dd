"""The multi-turn part of bfcl/<checkpoint>: all conversations side by side, each round in as few batches as it takes.

The model's answers are all that is kept between runs. A run that goes on hands them out again, and their calls are
executed again, until it is where the killed one was.
"""

from __future__ import annotations

from collections.abc import Sequence

from itool_pipeline.benchmarks.bfcl.conversations import (
    Conversation,
    MultiTurnBenchmark,
    Result,
    hold,
    tools_sandbox,
)
from itool_pipeline.benchmarks.bfcl.official_checker import CaseVerdict
from itool_pipeline.data.bfcl_multi_turn import MULTI_TURN, MultiTurnCase, load_multi_turn
from itool_pipeline.data.sources import draw_at_most
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.engines.chat import Chat
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.answers import Answers, Prompts, answer_batch, batches, kept_or_answered
from itool_pipeline.steps.models import chat, context_tokens
from itool_pipeline.steps.workspace import Workspace

Judged = dict[str, tuple[MultiTurnCase, Result, CaseVerdict]]
"""Case id → the case, what came of it, and the official verdict."""


def multi_turn_cases(ws: Workspace) -> tuple[MultiTurnCase, ...]:
    """The conversations that the config asks for, drawn by its seed."""
    settings = ws.experiment.evaluation.bfcl
    wanted = [category for category in settings.categories if category in MULTI_TURN]
    if not wanted:
        return ()
    pool = load_multi_turn(fetch_wheel(BFCL, ws.paths.downloads), wanted)
    limit = settings.conversations_per_category or settings.cases_per_category
    return draw_at_most(pool, limit, ws.experiment.seed)


def judged_conversations(ws: Workspace, checkpoint: str, parts: Parts) -> Judged:
    """Hold every conversation with the model at the checkpoint, and let the official checker decide."""
    cases = multi_turn_cases(ws)
    if not cases:
        return {}
    directory = fetch_wheel(BFCL, ws.paths.downloads)
    with tools_sandbox(directory) as sandbox:
        benchmark = MultiTurnBenchmark.of(directory, sandbox)
        results = hold(benchmark, cases, _Responder(ws, checkpoint, parts, len(cases)))
        judged = {case.id: (case, results[case.id], benchmark.check(case, results[case.id])) for case in cases}
        ws.say(f"{len(cases)} conversations decided; their calls were kept from the network by {sandbox.network}")
        return judged


class _Responder:
    """The model's answers to all conversations that wait for one; each batch of a round is kept as a part."""

    def __init__(self, ws: Workspace, checkpoint: str, parts: Parts, total: int) -> None:
        self._ws, self._checkpoint, self._parts, self._total = ws, checkpoint, parts, total
        self._template: Chat = chat(ws)
        settings = ws.experiment.evaluation.bfcl
        context, self._limit = settings.max_context_tokens, "max_context_tokens"
        positions = context_tokens(ws)
        if positions is not None and positions < context:
            context, self._limit = positions, "the model's context"
            ws.say(f"conversations end at {positions} tokens, the model's context, before max_context_tokens")
        self._room = context - settings.max_new_tokens
        self._round = 0
        self._progress = ws.progress("conversations ended")

    def __call__(self, waiting: Sequence[Conversation]) -> dict[str, str]:
        e = self._ws.experiment
        prompts = {}
        for conversation in waiting:
            prompt = self._template.prompt(conversation.example())
            if len(prompt) > self._room:
                conversation.stop(f"{len(prompt)} tokens leave no room for an answer ({self._limit})")
            else:
                prompts[conversation.case.id] = prompt
        answers: dict[str, str] = {}
        lengths = {key: len(prompt) for key, prompt in prompts.items()}
        for number, ids in enumerate(batches(lengths, e.evaluation.bfcl.batch_size, e.compute.batch_tokens)):
            name, batch = f"multi_turn_{self._round:04d}_{number:04d}.json", {key: prompts[key] for key in ids}
            answers |= kept_or_answered(self._parts, name, batch, self._generated)
            self._progress(self._total - len(waiting), self._total)
        self._round += 1
        return answers

    def _generated(self, prompts: Prompts) -> Answers:
        return answer_batch(self._ws, self._checkpoint, self._template, self._ws.experiment.evaluation.bfcl, prompts)

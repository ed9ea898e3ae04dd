"""api_bank_cases and api_bank/<checkpoint>: API-Bank's calls, answered greedily and decided without execution."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from itool_pipeline.benchmarks.api_bank.verdicts import CallVerdict, decide
from itool_pipeline.config import ApiBankConfig
from itool_pipeline.core.statistics import summarise
from itool_pipeline.core.types import Example
from itool_pipeline.data.api_bank import SEARCH, SOURCE
from itool_pipeline.data.sources import load_api_bank_pool
from itool_pipeline.steps.answers import AGGREGATE, Decision, Scored, answers, case_row, tables, write_rows
from itool_pipeline.steps.artifact_files import QUARANTINE_FILE
from itool_pipeline.steps.display import table
from itool_pipeline.steps.models import chat
from itool_pipeline.steps.prepare import (
    draw_from,
    prompt_tokens,
    quarantine_rows,
    read_pool,
    write_pool,
    write_quarantine,
)
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step

POOL = "cases.parquet"
EXACT = f"{AGGREGATE}_exact"
"""Scores named so count the calls that are equal to the expected ones, value by value."""


def api_bank_cases(ws: Workspace) -> Produced:
    """Every call of the benchmark as a case, and every dialogue and call that is quarantined, with the reason."""

    def make(step: Step) -> dict[str, Any]:
        rows, template = load_api_bank_pool(_asked(ws)), chat(ws)
        write_pool(step.work / POOL, rows.examples, lambda example: prompt_tokens(template, example))
        write_quarantine(step.work / QUARANTINE_FILE, rows.quarantined)
        levels = Counter(example.category for example in rows.examples)
        return {
            "cases": len(rows.examples),
            "dialogues": len({example.group for example in rows.examples}),
            "quarantined": len(rows.quarantined),
            "by_level": table({"level": level, "cases": count} for level, count in sorted(levels.items())),
            "some_quarantined": table(asdict(row) for row in rows.quarantined[:20]),
        }

    return ws.produce("api_bank_cases", make, quarantine_rows)


def api_bank(ws: Workspace, checkpoint: str) -> Produced:
    """Score one checkpoint on the levels that the experiment asks for."""

    def make(step: Step) -> dict[str, Any]:
        examples, unfit = _drawn(ws)
        outputs = answers(ws, checkpoint, examples, _asked(ws), step.parts)
        verdicts = {example.id: decide(example, outputs[example.id]) for example in examples}
        scored = Scored.of(ws, checkpoint, SOURCE)
        rows = [case_row(scored, x, outputs[x.id], _decision(verdicts[x.id])) for x in examples]
        right = [(x.category, verdicts[x.id].correct) for x in examples]
        exact = [(name, verdicts[x.id].exact) for x in examples for name in (f"{EXACT}_{x.category}", EXACT)]
        search = [("search" if x.gold[0].name == SEARCH else "other", verdicts[x.id].correct) for x in examples]
        return {
            **write_rows(step, scored, rows, [*summarise(right), *summarise(exact)], unfit),
            "exact": sum(verdict.exact for verdict in verdicts.values()),
            "by_kind_of_call": table(asdict(score) for score in summarise(search)),
        }

    return ws.produce(f"api_bank/{checkpoint}", make, tables)


def pool(ws: Workspace) -> dict[str, Example]:
    """Every case of the benchmark, by id."""
    examples, _ = read_pool(ws.input("api_bank_cases").file(POOL))
    return {example.id: example for example in examples}


def cases(ws: Workspace) -> dict[str, Example]:
    """The cases to be scored, by id: what the config draws from the pool."""
    examples, _ = _drawn(ws)
    return {example.id: example for example in examples}


def _drawn(ws: Workspace) -> tuple[tuple[Example, ...], Counter[str]]:
    """The cases to be scored, and how many of those asked for cannot be, by reason."""
    e, asked = ws.experiment, _asked(ws)
    limits = (asked.levels, asked.max_prompt_tokens, asked.cases_per_level)
    chosen, unfit = draw_from(ws.input("api_bank_cases").file(POOL), *limits, e.seed)
    if not chosen:
        raise StepError(f"experiment {e.name}: evaluation.api_bank leaves no case; raise its max_prompt_tokens")
    return chosen, unfit


def _asked(ws: Workspace) -> ApiBankConfig:
    asked = ws.experiment.evaluation.api_bank
    if asked is None:
        raise StepError(f"experiment {ws.experiment.name} has no evaluation.api_bank")
    return asked


def _decision(verdict: CallVerdict) -> Decision:
    return Decision(verdict.correct, verdict.error_type, verdict.error, verdict.mistake)

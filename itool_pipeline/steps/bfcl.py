"""bfcl/<checkpoint>: greedy answers to the held-out BFCL cases, decided by the official checkers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.benchmarks.bfcl.aggregates import aggregates
from itool_pipeline.benchmarks.bfcl.official_checker import (
    CHECKER_RAISED,
    DECODER_REFUSED,
    CaseVerdict,
    OfficialChecker,
)
from itool_pipeline.benchmarks.bfcl.official_errors import error_type, official_mistake
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.statistics import summarise
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import LANGUAGES
from itool_pipeline.data.bfcl_multi_turn import MULTI_TURN
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.files.parts import Parts
from itool_pipeline.judges.mistakes import Mistake, classify_mistake
from itool_pipeline.steps.answers import Decision, Scored, answers, case_row, tables, write_rows
from itool_pipeline.steps.bfcl_multi_turn import judged_conversations
from itool_pipeline.steps.display import table
from itool_pipeline.steps.prepare import drawn_cases, held_out_sizes
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step

AGGREGATES = "aggregates.parquet"
_TEXT = pa.string()
AGGREGATE_SCHEMA = pa.schema(
    [
        ("checkpoint", _TEXT),
        ("checkpoint_artifact", _TEXT),
        ("benchmark", _TEXT),
        ("rule", _TEXT),
        ("part", _TEXT),
        ("accuracy", pa.float64()),
        ("missing", _TEXT),
    ]
)


def bfcl(ws: Workspace, checkpoint: str) -> Produced:
    """Score one checkpoint on every held-out case of the experiment."""

    def make(step: Step) -> dict[str, Any]:
        scored = Scored.of(ws, checkpoint, "bfcl")
        examples, unfit = drawn_cases(ws)
        rows = list(_decided(ws, scored, examples, step.parts))
        scores = summarise(((row["category"], row["correct"]) for row in rows), (*LANGUAGES, *MULTI_TURN))
        found = aggregates({s.category: (s.correct, s.total) for s in scores}, held_out_sizes(ws))
        overall = [{**asdict(scored), **asdict(a), "missing": ", ".join(a.missing)} for a in found]
        pq.write_table(pa.Table.from_pylist(overall, AGGREGATE_SCHEMA), step.work / AGGREGATES)
        return {
            **write_rows(step, scored, rows, scores, unfit),
            "aggregates": table({k: a[k] for k in ("rule", "part", "accuracy", "missing")} for a in overall),
        }

    return ws.produce(f"bfcl/{checkpoint}", make, lambda a: {**tables(a), "aggregate_scores": [a.file(AGGREGATES)]})


def _decided(ws: Workspace, scored: Scored, examples: Sequence[Example], parts: Parts) -> Iterator[dict[str, Any]]:
    """A row for each case, of one turn and of several."""
    outputs = answers(ws, scored.checkpoint, examples, ws.experiment.evaluation.bfcl, parts)
    checker = OfficialChecker(fetch_wheel(BFCL, ws.paths.downloads))
    for example in examples:
        verdict = checker.check(example, outputs[example.id])
        mistake = None if verdict.correct else _mistake(example, verdict, outputs[example.id])
        yield case_row(scored, example, outputs[example.id], _decision(verdict, mistake))
    for case, result, verdict in judged_conversations(ws, scored.checkpoint, parts).values():
        mistake = None if verdict.correct else Mistake(error_type(verdict))
        yield case_row(scored, case, json.dumps(result, ensure_ascii=False), _decision(verdict, mistake))


def _mistake(example: Example, verdict: CaseVerdict, output: str) -> Mistake | None:
    ours = example.language == "python" and verdict.error_type not in (DECODER_REFUSED, CHECKER_RAISED)
    return classify_mistake(BFCL_RULES, example, output) if ours else official_mistake(example, verdict, output)


def _decision(verdict: CaseVerdict, mistake: Mistake | None) -> Decision:
    return Decision(verdict.correct, verdict.error_type, verdict.error, mistake)

"""bfcl/<checkpoint>: greedy answers to the held-out BFCL cases, decided by the official checkers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.benchmarks.bfcl import CaseVerdict, OfficialChecker, summarise
from itool_pipeline.benchmarks.bfcl_aggregates import aggregates
from itool_pipeline.benchmarks.bfcl_errors import error_type, official_mistake
from itool_pipeline.core.error_types import Mistake, classify
from itool_pipeline.core.statistics import wilson_interval
from itool_pipeline.core.types import Example
from itool_pipeline.data.wheels import BFCL, fetch
from itool_pipeline.engines.chat import Chat
from itool_pipeline.steps.bfcl_multi_turn import judged_conversations
from itool_pipeline.steps.display import bar_plot, table
from itool_pipeline.steps.models import chat, inference_model
from itool_pipeline.steps.plan import checkpoints
from itool_pipeline.steps.prepare import cases
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.files import Parts

SCORES, CASES, AGGREGATES = "scores.parquet", "cases.parquet", "aggregates.parquet"
_TEXT = pa.string()
CASE_SCHEMA = pa.schema(
    [
        ("checkpoint", _TEXT),
        ("checkpoint_artifact", _TEXT),
        ("benchmark", _TEXT),
        ("category", _TEXT),
        ("case_id", _TEXT),
        ("output", _TEXT),
        ("correct", pa.bool_()),
        ("error_type", _TEXT),
        ("error", _TEXT),
        ("mistake", _TEXT),
        ("function", _TEXT),
        ("parameter", _TEXT),
        ("expected", _TEXT),
        ("got", _TEXT),
    ]
)
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
        of_checkpoint = {
            "checkpoint": checkpoint,
            "checkpoint_artifact": ws.planned[checkpoints()[checkpoint]].fingerprint,
            "benchmark": "bfcl",
        }
        rows = [{**of_checkpoint, **row} for row in _decided(ws, checkpoint, step.parts)]
        scores = summarise((row["category"], row["correct"]) for row in rows)
        score_rows = [{**of_checkpoint, **asdict(s), "accuracy": s.correct / s.total} for s in scores]
        found = aggregates({s.category: (s.correct, s.total) for s in scores})
        overall = [{**of_checkpoint, **asdict(a), "missing": ", ".join(a.missing)} for a in found]
        pq.write_table(pa.Table.from_pylist(rows, CASE_SCHEMA), step.work / CASES)
        pq.write_table(pa.Table.from_pylist(score_rows), step.work / SCORES)
        pq.write_table(pa.Table.from_pylist(overall, AGGREGATE_SCHEMA), step.work / AGGREGATES)
        correct = sum(row["correct"] for row in rows)
        low, high = wilson_interval(correct, len(rows))
        mistakes = Counter(row["mistake"] for row in rows if not row["correct"])
        counts = {name or "unclassified": float(n) for name, n in mistakes.most_common()}
        return {
            "cases": len(rows),
            "correct": correct,
            "accuracy": correct / len(rows),
            "accuracy_low": low,
            "accuracy_high": high,
            "by_category": table({k: s[k] for k in ("category", "correct", "total", "accuracy")} for s in score_rows),
            "aggregates": table({k: a[k] for k in ("rule", "part", "accuracy", "missing")} for a in overall),
            "errors": bar_plot(step.work / "errors.png", {checkpoint: counts}, "Wrong cases by type of error", "cases"),
            "some_errors": table(_shown(row) for row in [r for r in rows if not r["correct"]][:10]),
        }

    return ws.produce(
        f"bfcl/{checkpoint}",
        make,
        lambda a: {
            "scores": [a.file(SCORES)],
            "cases": [a.file(CASES)],
            "aggregate_scores": [a.file(AGGREGATES)],
        },
    )


def _decided(ws: Workspace, checkpoint: str, parts: Parts) -> Iterator[dict[str, Any]]:
    """A row for each case, of one turn and of several."""
    examples = list(cases(ws).values())
    outputs = _answers(ws, checkpoint, examples, parts)
    checker = OfficialChecker(fetch(BFCL, ws.paths.downloads))
    for example in examples:
        yield _case_row(example, outputs[example.id], checker)
    for case, result, verdict in judged_conversations(ws, checkpoint, parts).values():
        mistake = None if verdict.correct else Mistake(error_type(verdict))
        yield _row(case.category, case.id, json.dumps(result, ensure_ascii=False), verdict, mistake)


def _answers(ws: Workspace, checkpoint: str, examples: Sequence[Example], parts: Parts) -> dict[str, str]:
    """Case id → the model's answer. Batches of similar length; each finished batch is kept as a part."""
    from itool_pipeline.engines.generate import generate_greedy  # torch

    template, settings = chat(ws), ws.experiment.evaluation.bfcl
    prompts = {example.id: template.prompt(example) for example in examples}
    order = sorted(prompts, key=lambda key: (-len(prompts[key]), key))
    size = settings.batch_size
    batches = {f"answers_{i:05d}.json": order[i : i + size] for i in range(0, len(order), size)}
    model = None
    answers: dict[str, str] = {}
    progress = ws.progress("cases answered")
    for name, ids in batches.items():
        if not parts.has(name):
            model = model or inference_model(ws, checkpoints()[checkpoint])
            rows = generate_greedy(model, [prompts[key] for key in ids], settings.max_new_tokens, template.end_token)
            parts.write_json(name, _texts(ids, rows, template))
        answers |= parts.read_json(name)
        progress(len(answers), len(order))
    return answers


def _texts(ids: Sequence[str], rows: Sequence[tuple[int, ...]], template: Chat) -> dict[str, str]:
    return {key: template.text(row) for key, row in zip(ids, rows, strict=True)}


def _case_row(example: Example, output: str, checker: OfficialChecker) -> dict[str, Any]:
    verdict = checker.check(example, output)
    mistake = None
    if not verdict.correct:
        by_us = example.language == "python"
        mistake = classify(example, output) if by_us else official_mistake(example, verdict, output)
    return _row(example.category, example.id, output, verdict, mistake)


def _row(category: str, case_id: str, output: str, verdict: CaseVerdict, mistake: Mistake | None) -> dict[str, Any]:
    return {
        "category": category,
        "case_id": case_id,
        "output": output,
        "correct": verdict.correct,
        "error_type": verdict.error_type,
        "error": verdict.error,
        "mistake": str(mistake.type) if mistake else None,
        "function": mistake.function if mistake else None,
        "parameter": mistake.parameter if mistake else None,
        "expected": mistake.expected if mistake else None,
        "got": mistake.got if mistake else None,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": row["case_id"],
        "mistake": row["mistake"],
        "parameter": row["parameter"],
        "expected": row["expected"],
        "got": row["got"],
        "output": row["output"],
    }

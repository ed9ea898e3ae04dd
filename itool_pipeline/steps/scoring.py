"""<benchmark>/<checkpoint>: one checkpoint examined on a benchmark, with a row for each case and each category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from itool_pipeline.benchmarks.types import Aggregate, Benchmark, Decided
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.config import BenchmarkConfig, EndpointModel
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.files.parts import Parts
from itool_pipeline.statistics import summarise
from itool_pipeline.steps.artifact_files import AGGREGATES_FILE, CASES_FILE, SCORES_FILE, THOUGHTS_FILE
from itool_pipeline.steps.asset_graph import checkpoints
from itool_pipeline.steps.cases import drawn_cases, read_pool
from itool_pipeline.steps.computing import computed_in, settled
from itool_pipeline.steps.display import table
from itool_pipeline.steps.endpoint_examinee import EndpointExaminee
from itool_pipeline.steps.examinee import ModelExaminee
from itool_pipeline.steps.thoughts import write_thoughts
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import AGGREGATE_SCORES, CASES, SCORES


@dataclass(frozen=True, slots=True)
class Scored:
    """Which checkpoint was asked on which benchmark: the first columns of every row."""

    checkpoint: str
    checkpoint_artifact: str
    benchmark: str


def score_checkpoint(ws: Workspace, benchmark: Benchmark[Any], checkpoint: str) -> Produced:
    """Examine the model at the checkpoint on every case that the experiment asks for."""

    def make(step: Step) -> dict[str, Any]:
        settings = benchmark.asked_section(ws.experiment, BenchmarkConfig)
        pool = read_pool(ws, benchmark)
        drawn = drawn_cases(ws, benchmark, pool)
        examinee = _examinee(ws, checkpoint, benchmark.name, settings, step.parts)
        decided = list(benchmark.examine(ws.experiment, drawn.cases, examinee, ws.paths.downloads))
        scored = Scored(checkpoint, ws.planned[checkpoints()[checkpoint]].fingerprint, benchmark.name)
        thought = write_thoughts(step.work / THOUGHTS_FILE, examinee.thoughts)
        aggregates = benchmark.aggregates(decided, pool.sizes(), examinee.syntax)
        shown = write_rows(step, scored, decided, benchmark.categories, aggregates, examinee.syntax)
        unfit = sorted(drawn.unfit.items())
        left_out = table({"reason": reason, "cases": count} for reason, count in unfit)
        counts = {"left_out": drawn.unfit.total(), "left_out_by_reason": left_out}
        paid = examinee.paid() if isinstance(examinee, EndpointExaminee) else {}
        return {**shown, **counts, **thought, **computed_in(step.parts), **paid}

    return ws.produce(f"{benchmark.name}/{checkpoint}", make)


def _examinee(
    ws: Workspace, checkpoint: str, benchmark: str, settings: BenchmarkConfig, parts: Parts
) -> ModelExaminee | EndpointExaminee:
    model = ws.experiment.model
    if isinstance(model, EndpointModel):
        return EndpointExaminee.of(ws, model, settings, parts)
    return ModelExaminee.of(settled(ws, parts), checkpoint, benchmark, settings, parts)


def write_rows(
    step: Step,
    scored: Scored,
    decided: Sequence[Decided[Any]],
    categories: Sequence[str],
    aggregates: Sequence[Aggregate],
    syntax: CallSyntax = PYTHON_CALLS,
) -> dict[str, Any]:
    """Write the rows of `cases`, `scores` and `aggregate_scores`; returns what the UI shows of them."""
    rows = [case_row(scored, one, syntax) for one in decided]
    counts = [asdict(score) for score in summarise(((r["category"], r["correct"]) for r in rows), categories)]
    overall = [{**asdict(one), "missing": ", ".join(one.missing)} for one in aggregates]
    write_table_file(step.work / CASES_FILE, CASES, rows)
    write_table_file(step.work / SCORES_FILE, SCORES, ({**asdict(scored), **row} for row in counts))
    write_table_file(step.work / AGGREGATES_FILE, AGGREGATE_SCORES, ({**asdict(scored), **row} for row in overall))
    correct = sum(row["correct"] for row in rows)
    return {
        "cases": len(rows),
        "correct": correct,
        "accuracy": correct / len(rows),
        "by_category": table(counts),
        "aggregates": table({k: row[k] for k in ("rule", "part", "accuracy", "missing")} for row in overall),
        "some_errors": table([_shown(row) for row in rows if not row["correct"]][:10]),
    }


def case_row(scored: Scored, decided: Decided[Any], syntax: CallSyntax) -> dict[str, Any]:
    """A row of the table `cases`."""
    decision, mistake = decided.decision, decided.decision.mistake
    return {
        **asdict(scored),
        "category": decided.case.category,
        "case_id": decided.case.id,
        "output": decided.output,
        **_calling(decided, syntax),
        "correct": decision.correct,
        "error_type": decision.error_type,
        "error": decision.error,
        "mistake": str(mistake.type) if mistake else None,
        "function": mistake.function if mistake else None,
        "parameter": mistake.parameter if mistake else None,
        "expected": mistake.expected if mistake else None,
        "got": mistake.got if mistake else None,
    }


def _calling(decided: Decided[Any], syntax: CallSyntax) -> dict[str, bool | None]:
    """Whether to call at all, which an answer can get right whatever it calls."""
    if not isinstance(decided.case, Example):
        return {"should_call": None, "calls": None}
    return {
        "should_call": bool(decided.case.gold) or decided.case.expects is Expectation.ANY_CALL,
        "calls": syntax.has_begun_call(decided.output),
    }


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": row["case_id"],
        "mistake": row["mistake"],
        "parameter": row["parameter"],
        "expected": row["expected"],
        "got": row["got"],
        "output": row["output"],
    }

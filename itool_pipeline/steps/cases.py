"""<benchmark>_cases: every case of a benchmark that an experiment may ask for; and those that it does ask for."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from itool_pipeline.benchmarks.types import Benchmark, Drawn, Pool
from itool_pipeline.config import EndpointModel
from itool_pipeline.engines.endpoint.messages import estimated_tokens
from itool_pipeline.steps.artifact_files import POOL_FILE, QUARANTINE_FILE
from itool_pipeline.steps.asset_graph import cases_asset
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_files import read_examples, write_cases, write_counted_cases
from itool_pipeline.steps.models import call_syntax, chat
from itool_pipeline.steps.prepare import prompt_ids, write_quarantine
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.steps.writing import asked
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows


def benchmark_cases(ws: Workspace, benchmark: Benchmark[Any]) -> Produced:
    """The benchmark's pool, and what of its source is quarantined, with the reason.

    Which cases are asked is up to the scoring: to ask more of them, nothing is trained again.
    """

    def make(step: Step) -> dict[str, Any]:
        rows, refused = benchmark.load_cases(ws.experiment, ws.paths.downloads), Counter[str]()
        model, syntax = ws.experiment.model, call_syntax(ws)
        cases = (asked(example, syntax) for example in rows.examples)
        if isinstance(model, EndpointModel) and model.tokenizer is None:
            write_counted_cases(step.work / POOL_FILE, cases, estimated_tokens)
        else:
            template = chat(ws)
            write_cases(step.work / POOL_FILE, cases, lambda example: prompt_ids(template, example, refused))
        write_quarantine(step.work / QUARANTINE_FILE, rows.quarantined)
        sizes = Counter(example.category for example in rows.examples)
        return {
            "cases": len(rows.examples),
            "groups": len({example.group for example in rows.examples}),
            "quarantined": len(rows.quarantined),
            "by_category": table({"category": name, "cases": count} for name, count in sorted(sizes.items())),
            "refused": table({"reason": reason, "cases": count} for reason, count in refused.most_common()),
            "some_quarantined": table(asdict(row) for row in rows.quarantined[:20]),
        }

    return ws.produce(cases_asset(benchmark.name), make)


def drawn_cases(ws: Workspace, benchmark: Benchmark[Any], pool: Pool) -> Drawn[Any]:
    """The cases that the experiment asks for. Raises StepError when none is left."""
    e = ws.experiment
    drawn = benchmark.draw_cases(e, pool, ws.paths.downloads)
    if not drawn.cases:
        raise StepError(f"experiment {e.name}: evaluation.{benchmark.name} leaves no case; raise its max_prompt_tokens")
    return drawn


def read_pool(ws: Workspace, benchmark: Benchmark[Any]) -> Pool:
    """The benchmark's cases of one prompt, with the lengths of these."""
    file = ws.input(cases_asset(benchmark.name)).file(POOL_FILE)
    tokens = {row["example_id"]: row["prompt_tokens"] for row in read_table_rows(file, ["example_id", "prompt_tokens"])}
    return Pool(tuple(read_examples(file)), tokens)

"""<benchmark>_cases: every case of a benchmark that an experiment may ask for; and those that it does ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.benchmarks.types import Benchmark, Drawn, Pool
from itool_pipeline.core.types import Example
from itool_pipeline.data.drawing import TokenCount
from itool_pipeline.steps.artifact_files import POOL_FILE, QUARANTINE_FILE
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_files import EXAMPLE_SCHEMA, read_examples, read_rows, write_examples
from itool_pipeline.steps.models import chat
from itool_pipeline.steps.plan import cases_asset
from itool_pipeline.steps.prepare import SPLIT_SCHEMA, prompt_tokens, quarantine_rows, write_quarantine
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows

PROMPT_SCHEMA = pa.schema([("prompt_tokens", pa.int32())])


def benchmark_cases(ws: Workspace, benchmark: Benchmark[Any]) -> Produced:
    """The benchmark's pool, and what of its source is quarantined, with the reason.

    Which cases are asked is up to the scoring: to ask more of them, nothing is trained again.
    """

    def make(step: Step) -> dict[str, Any]:
        rows, template = benchmark.load_cases(ws.experiment, ws.paths.downloads), chat(ws)
        write_pool(step.work / POOL_FILE, rows.examples, lambda example: prompt_tokens(template, example))
        write_quarantine(step.work / QUARANTINE_FILE, rows.quarantined)
        sizes = Counter(example.category for example in rows.examples)
        return {
            "cases": len(rows.examples),
            "groups": len({example.group for example in rows.examples}),
            "quarantined": len(rows.quarantined),
            "by_category": table({"category": name, "cases": count} for name, count in sorted(sizes.items())),
            "some_quarantined": table(asdict(row) for row in rows.quarantined[:20]),
        }

    return ws.produce(cases_asset(benchmark.name), make, _tables)


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
    tokens = {row["example_id"]: row["prompt_tokens"] for row in read_rows(file, ["example_id", "prompt_tokens"])}
    return Pool(tuple(read_examples(file)), tokens)


def write_pool(path: Path, pool: Iterable[Example], tokens: TokenCount) -> None:
    """Cases with the length of their prompts in tokens, so that reading them needs no model."""
    write_examples(path, ((x, {"prompt_tokens": tokens(x)}) for x in pool), PROMPT_SCHEMA)


def _tables(artifact: Artifact) -> dict[str, Rows]:
    """What is quarantined; and the cases as rows of `examples`, with what only training examples have left open."""
    cases = pq.read_table(artifact.file(POOL_FILE), columns=EXAMPLE_SCHEMA.names)
    for field in SPLIT_SCHEMA:
        value = {"part": "held_out", "in_buffer": False}.get(field.name)
        cases = cases.append_column(field, pa.array([value] * len(cases), field.type))
    return {"examples": cases, **quarantine_rows(artifact)}

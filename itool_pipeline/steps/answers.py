"""What every benchmark shares: greedy answers to its cases, and a row for each case and each category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.config import ApiBankConfig, BfclConfig
from itool_pipeline.core.statistics import CategoryScore, wilson_interval
from itool_pipeline.core.types import Example
from itool_pipeline.data.sources import InCategory
from itool_pipeline.engines.chat import Chat
from itool_pipeline.files.parts import Parts
from itool_pipeline.judges.mistakes import Mistake
from itool_pipeline.steps.display import bar_plot, table
from itool_pipeline.steps.models import chat, inference_model, require_context
from itool_pipeline.steps.plan import checkpoints
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows

Prompts = Mapping[str, tuple[int, ...]]
"""Token ids of prompts, by case."""
Answers = dict[str, str]
"""What the model said, by case."""

SCORES, CASES = "scores.parquet", "cases.parquet"
AGGREGATE = "overall"
"""A score whose category begins so counts cases that another score counts too."""

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


@dataclass(frozen=True, slots=True)
class Scored:
    """Which checkpoint was asked on which benchmark: the first columns of every row."""

    checkpoint: str
    checkpoint_artifact: str
    benchmark: str

    @staticmethod
    def of(ws: Workspace, checkpoint: str, benchmark: str) -> Scored:
        return Scored(checkpoint, ws.planned[checkpoints()[checkpoint]].fingerprint, benchmark)


@dataclass(frozen=True, slots=True)
class Decision:
    """One case decided. `error_type` and `error` are the checker's own, `mistake` is the paper's type (Fig. 3)."""

    correct: bool
    error_type: str = ""
    error: str = ""
    mistake: Mistake | None = None


def answers(
    ws: Workspace, checkpoint: str, examples: Sequence[Example], settings: BfclConfig | ApiBankConfig, parts: Parts
) -> Answers:
    """Case id → the model's answer. Batches of similar length; each finished batch is kept as a part.

    Raises StepError when the longest prompt and its answer do not fit in the model's context.
    """
    template = chat(ws)
    prompts = {example.id: template.prompt(example) for example in examples}
    lengths = {key: len(prompt) for key, prompt in prompts.items()}
    section = "evaluation.bfcl" if isinstance(settings, BfclConfig) else "evaluation.api_bank"
    longest = max(lengths.values(), default=0) + settings.max_new_tokens
    require_context(ws, longest, f"answering {section}", f"{section}.max_prompt_tokens or max_new_tokens")
    found: dict[str, str] = {}
    progress = ws.progress("cases answered")
    for number, ids in enumerate(batches(lengths, settings.batch_size, ws.experiment.compute.batch_tokens)):
        batch = {key: prompts[key] for key in ids}
        found |= kept_or_answered(
            parts, f"answers_{number:05d}.json", batch, partial(answer_batch, ws, checkpoint, template, settings)
        )
        progress(len(found), len(prompts))
    return found


def batches(lengths: Mapping[str, int], most: int, tokens: int) -> list[list[str]]:
    """The keys, longest first, in batches of at most `most` that padded to their longest hold at most `tokens`.

    What is longer than `tokens` is a batch alone.
    """
    made: list[list[str]] = []
    for key in sorted(lengths, key=lambda key: (-lengths[key], key)):
        if made and len(made[-1]) < most and (len(made[-1]) + 1) * lengths[made[-1][0]] <= tokens:
            made[-1].append(key)
        else:
            made.append([key])
    return made


def kept_or_answered(parts: Parts, name: str, prompts: Prompts, answer: Callable[[Prompts], Answers]) -> Answers:
    """The part `name` if it answers just these prompts, else their answers, kept as that part."""
    if parts.has(name):
        kept: dict[str, str] = parts.read_json(name)
        if kept.keys() == prompts.keys():
            return kept
    made = answer(prompts)
    parts.write_json(name, made)
    return made


def answer_batch(
    ws: Workspace, checkpoint: str, template: Chat, settings: BfclConfig | ApiBankConfig, prompts: Prompts
) -> Answers:
    """Key → the greedy answer of the model at the checkpoint, to one batch of prompts by key."""
    from itool_pipeline.engines.generate import generate_greedy  # torch

    model = inference_model(ws, checkpoints()[checkpoint])
    rows = generate_greedy(model, list(prompts.values()), settings.max_new_tokens, template.end_token)
    return {key: template.text(row) for key, row in zip(prompts, rows, strict=True)}


def case_row(scored: Scored, case: InCategory, output: str, decision: Decision) -> dict[str, Any]:
    """A row of the table `cases`."""
    mistake = decision.mistake
    return {
        **asdict(scored),
        "category": case.category,
        "case_id": case.id,
        "output": output,
        "correct": decision.correct,
        "error_type": decision.error_type,
        "error": decision.error,
        "mistake": str(mistake.type) if mistake else None,
        "function": mistake.function if mistake else None,
        "parameter": mistake.parameter if mistake else None,
        "expected": mistake.expected if mistake else None,
        "got": mistake.got if mistake else None,
    }


def write_rows(
    step: Step,
    scored: Scored,
    rows: Sequence[Mapping[str, Any]],
    scores: Iterable[CategoryScore],
    unfit: Counter[str],
) -> dict[str, Any]:
    """Write the rows of `cases` and `scores` into the artifact; returns what the UI shows of them.

    unfit  reason → how many of the cases asked for cannot be scored
    """
    categories = [{**asdict(scored), **asdict(s), "accuracy": s.correct / s.total} for s in scores]
    pq.write_table(pa.Table.from_pylist(list(rows), CASE_SCHEMA), step.work / CASES)
    pq.write_table(pa.Table.from_pylist(categories), step.work / SCORES)
    wrong = [row for row in rows if not row["correct"]]
    correct = len(rows) - len(wrong)
    low, high = wilson_interval(correct, len(rows))
    counts = Counter(row["mistake"] or "unclassified" for row in wrong)
    errors = {scored.checkpoint: {name: float(n) for name, n in counts.most_common()}}
    return {
        "cases": len(rows),
        "left_out": unfit.total(),
        "left_out_by_reason": table({"reason": reason, "cases": count} for reason, count in sorted(unfit.items())),
        "correct": correct,
        "accuracy": correct / len(rows),
        "accuracy_low": low,
        "accuracy_high": high,
        "by_category": table({k: s[k] for k in ("category", "correct", "total", "accuracy")} for s in categories),
        "errors": bar_plot(step.work / "errors.png", errors, "Wrong cases by type of error", "cases"),
        "errors_by_category": table(_errors_by_category(wrong, list(counts))),
        "fails_most": table(_fails_most(wrong)),
        "some_errors": table(_shown(row) for row in wrong[:10]),
    }


def tables(artifact: Artifact) -> dict[str, Rows]:
    """What a scoring's artifact loads into the database."""
    return {"scores": [artifact.file(SCORES)], "cases": [artifact.file(CASES)]}


def _errors_by_category(wrong: Sequence[Mapping[str, Any]], mistakes: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each category, one column for each type of error."""
    counts = Counter((row["category"], row["mistake"] or "unclassified") for row in wrong)
    categories = dict.fromkeys(row["category"] for row in wrong)
    return [{"category": c, **{mistake: counts[c, mistake] for mistake in mistakes}} for c in categories]


def _fails_most(wrong: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Functions, and parameters where one is to blame, with the number of cases that fail by them."""
    counts = Counter((row["function"], row["parameter"], row["mistake"]) for row in wrong if row["function"])
    names = ("function", "parameter", "mistake")
    return [{**dict(zip(names, key, strict=True)), "cases": count} for key, count in counts.most_common(10)]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": row["case_id"],
        "mistake": row["mistake"],
        "parameter": row["parameter"],
        "expected": row["expected"],
        "got": row["got"],
        "output": row["output"],
    }

"""The assets that come before any training: base_model, examples, splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.config import BFCL_MULTI_TURN, BfclConfig
from itool_pipeline.core.difficulty import Thresholds, difficulty, size
from itool_pipeline.core.replay_buffer import draw_buffer
from itool_pipeline.core.splits import validation_ids
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import prepare_base_model
from itool_pipeline.data.sources import choose_cases, load_data
from itool_pipeline.steps.display import table
from itool_pipeline.steps.models import chat
from itool_pipeline.steps.workspace import Produced, Workspace, read_examples, read_jsonl, write_jsonl
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows

TRAIN, CASES, REFUSED, SPLITS = "train.jsonl", "held_out.jsonl", "refused.jsonl", "splits.parquet"
HELD_OUT = BfclConfig(max_prompt_tokens=10**9)
"""Every held-out question of one turn."""


def base_model(ws: Workspace) -> Produced:
    """The base model's weights and tokenizer in safetensors."""
    return ws.produce("base_model", lambda s: prepare_base_model(ws.experiment.model, ws.paths.downloads, s.work))


def examples(ws: Workspace) -> Produced:
    """Examples to train on, the whole held-out pool, and every row that was left out, with the reason.

    Which cases of the pool are scored is up to `bfcl/<checkpoint>`: to score more of them, nothing is trained again.
    """

    def make(step: Step) -> dict[str, Any]:
        template, e = chat(ws), ws.experiment
        loaded = load_data(e.data, HELD_OUT, ws.paths.downloads, e.seed, token_count=lambda x: len(template.prompt(x)))
        if not loaded.train:
            raise ValueError(
                f"experiment {e.name}: no training example is left within its limits; raise data.max_prompt_tokens or "
                "name more categories"
            )
        write_jsonl(step.work / TRAIN, (x.to_dict() for x in loaded.train))
        held_out = ((x.to_dict(), len(template.prompt(x))) for x in loaded.bfcl_cases)
        write_jsonl(step.work / CASES, ({"example": row, "prompt_tokens": tokens} for row, tokens in held_out))
        write_jsonl(step.work / REFUSED, (asdict(row) for row in (*loaded.refused, *loaded.left_out)))
        reasons = Counter(_kind(row.reason) for row in (*loaded.refused, *loaded.left_out))
        return {
            "train_examples": len(loaded.train),
            "held_out": len(loaded.bfcl_cases),
            "refused_rows": len(loaded.refused),
            "left_out": len(loaded.left_out),
            "by_category": table(_by_category(loaded.train, loaded.bfcl_cases)),
            "left_out_by_reason": table({"reason": r, "rows": n} for r, n in reasons.most_common()),
            "some_examples": table(_shown(x) for x in loaded.train[:5]),
        }

    return ws.produce("examples", make)


def splits(ws: Workspace) -> Produced:
    """Training and validation parts, difficulty (Eq. 1), and the replay buffer's random half (Section 3.2)."""

    def make(step: Step) -> dict[str, Any]:
        train, e = read_examples(ws.input("examples").file(TRAIN)), ws.experiment
        bounds = Thresholds(**e.split.difficulty.model_dump())
        held_back = validation_ids({k: x.group for k, x in train.items()}, e.split.validation_fraction, e.seed)
        buffer = set(draw_buffer([k for k in train if k not in held_back], e.replay_buffer.fraction, e.seed))
        rows = [
            {
                "example_id": key,
                "split": "validation" if key in held_back else "train",
                "difficulty": str(difficulty(size(x), bounds)),
                "in_buffer": key in buffer,
            }
            for key, x in train.items()
        ]
        pq.write_table(pa.Table.from_pylist(rows), step.work / SPLITS)
        # Whatever trains or searches reads the examples here, so that its inputs are what its lineage says.
        write_jsonl(step.work / TRAIN, (x.to_dict() for x in train.values()))
        counts = Counter((row["difficulty"], row["split"]) for row in rows)
        return {
            "train_examples": len(train) - len(held_back),
            "validation_examples": len(held_back),
            "buffer_examples": len(buffer),
            "by_difficulty": table(
                {"difficulty": d, "split": s, "examples": n} for (d, s), n in sorted(counts.items())
            ),
        }

    return ws.produce("splits", make, lambda artifact: {"examples": _example_rows(ws, artifact)})


def split_rows(ws: Workspace) -> dict[str, dict[str, Any]]:
    """Example id → its row in the asset `splits`, in the data's order."""
    rows = pq.read_table(ws.input("splits").file(SPLITS)).to_pylist()
    return {row["example_id"]: row for row in rows}


def training_examples(ws: Workspace) -> dict[str, Example]:
    """Every example to train or validate on, by id."""
    return read_examples(ws.input("splits").file(TRAIN))


def held_out(ws: Workspace) -> dict[str, Example]:
    """The held-out pool, by id."""
    rows = read_jsonl(ws.input("examples").file(CASES))
    return {row["example"]["id"]: Example.from_dict(row["example"]) for row in rows}


def cases(ws: Workspace) -> dict[str, Example]:
    """Every BFCL case of one turn to be scored, by id: what the config draws from the held-out pool."""
    rows, e = list(read_jsonl(ws.input("examples").file(CASES))), ws.experiment
    tokens = {row["example"]["id"]: row["prompt_tokens"] for row in rows}
    pool = [Example.from_dict(row["example"]) for row in rows]
    chosen, _ = choose_cases(pool, e.evaluation.bfcl, e.seed, lambda example: tokens[example.id])
    if not chosen and not set(e.evaluation.bfcl.categories) & set(BFCL_MULTI_TURN):
        raise ValueError(f"experiment {e.name}: evaluation.bfcl leaves no case; raise its max_prompt_tokens")
    return {example.id: example for example in chosen}


def _example_rows(ws: Workspace, artifact: Artifact) -> Rows:
    by_id = {row["example_id"]: row for row in pq.read_table(artifact.file(SPLITS)).to_pylist()}
    bounds = Thresholds(**ws.experiment.split.difficulty.model_dump())
    examples = read_examples(artifact.file(TRAIN))
    train = [_row(x, bounds, {"part": "train", **by_id[key]}) for key, x in examples.items()]
    own = {"part": "held_out", "split": None, "in_buffer": False}
    return [*train, *(_row(x, bounds, own) for x in held_out(ws).values())]


def _row(example: Example, bounds: Thresholds, own: Mapping[str, Any]) -> dict[str, Any]:
    measured = size(example)
    return {
        "example_id": example.id,
        "source": example.source,
        "category": example.category,
        "difficulty": str(difficulty(measured, bounds)),
        "question": example.question,
        "tools": json.dumps(list(example.tools), ensure_ascii=False),
        "messages": json.dumps([asdict(m) for m in example.messages], ensure_ascii=False),
        "response": example.response,
        "tool_count": measured.tools,
        "tool_chars": measured.chars,
        "call_count": measured.calls,
        **own,
    }


def _kind(reason: str) -> str:
    return "prompt is too long" if reason.startswith("prompt of") else reason


def _by_category(train: tuple[Example, ...], held_out: tuple[Example, ...]) -> list[dict[str, Any]]:
    trained, scored = Counter(x.category for x in train), Counter(x.category for x in held_out)
    return [{"category": c, "train": trained[c], "held_out": scored[c]} for c in sorted(trained | scored)]


def _shown(example: Example) -> dict[str, Any]:
    return {"id": example.id, "category": example.category, "question": example.question, "answer": example.response}

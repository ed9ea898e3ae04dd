"""The assets that come before any training: base_model, examples, splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.config import BFCL_MULTI_TURN, BfclConfig
from itool_pipeline.core.difficulty import Thresholds, difficulty, size
from itool_pipeline.core.replay_buffer import draw_buffer
from itool_pipeline.core.splits import validation_ids
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import prepare_base_model
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import TokenCount, choose_cases, load_data
from itool_pipeline.engines.chat import Chat, ChatTemplateError
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.account import Account, account_of, lost
from itool_pipeline.steps.artifact_files import QUARANTINE_FILE
from itool_pipeline.steps.display import table
from itool_pipeline.steps.example_files import read_examples, read_rows, size_of, write_examples
from itool_pipeline.steps.models import chat, context_tokens
from itool_pipeline.steps.workspace import Produced, StepError, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.rows import Rows
from itool_pipeline.store.table_files import write_table_file
from itool_pipeline.store.tables import QUARANTINE

TRAIN, HELD_OUT, ACCOUNT = "train.parquet", "held_out.parquet", "account.json"
"""Of `examples`. ACCOUNT: what became of every row of each source, with counts."""
SPLITS, EXAMPLES = "splits.parquet", "examples.parquet"
"""Of `splits`. SPLITS has an example's group and where it goes; EXAMPLES is the table `examples`."""

POOL = BfclConfig(max_prompt_tokens=10**9)
"""Every held-out question of one turn."""

PROMPT_SCHEMA = pa.schema([("prompt_tokens", pa.int32())])
SPLIT_SCHEMA = pa.schema(
    [("part", pa.string()), ("split", pa.string()), ("difficulty", pa.string()), ("in_buffer", pa.bool_())]
)


def base_model(ws: Workspace) -> Produced:
    """The base model's weights and tokenizer in safetensors."""
    return ws.produce("base_model", lambda s: prepare_base_model(ws.experiment.model, ws.paths.downloads, s.work))


def examples(ws: Workspace) -> Produced:
    """Examples to train on, the whole held-out pool, and what became of every other row, with the reason.

    Which cases of the pool are scored is up to `bfcl/<checkpoint>`: to score more of them, nothing is trained again.
    """

    def make(step: Step) -> dict[str, Any]:
        template, context, e = chat(ws), context_tokens(ws), ws.experiment
        lengths: dict[str, int | None] = {}

        def tokens(example: Example) -> int | None:
            if example.id not in lengths:
                lengths[example.id] = prompt_tokens(template, example)
            return lengths[example.id]

        def fits(example: Example) -> bool:
            return context is None or (tokens(example) or 0) + len(template.response(example.response)) <= context

        loaded = load_data(
            e.data, POOL, ws.paths.downloads, e.seed, token_count=tokens, fits=fits, progress=ws.progress
        )
        became = account_of(loaded)
        if not loaded.train:
            raise StepError(f"experiment {e.name}: no training example is left. {lost(became)}")
        alone: Counter[bool] = Counter()

        def written() -> Iterator[tuple[Example, Mapping[str, Any]]]:
            for example in loaded.train:
                alone[template.tokenised_alone(example.response)] += 1
                yield example, {}

        write_examples(step.work / TRAIN, written())
        write_pool(step.work / HELD_OUT, loaded.bfcl_cases, tokens)
        write_quarantine(step.work / QUARANTINE_FILE, loaded.quarantined)
        Parts(step.work).write_json(ACCOUNT, became)
        categories = Counter(row["category"] for row in read_rows(step.work / TRAIN, ["category"]))
        return {
            "train_examples": len(loaded.train),
            "held_out": len(loaded.bfcl_cases),
            "quarantined": len(loaded.quarantined),
            "left_out": sum(loaded.left_out.values()),
            "tools_shown_by": template.tools_shown_by,
            "tokenised_alone": alone[True],
            "data_commit": loaded.commit or None,
            "by_category": table(_by_category(categories, Counter(x.category for x in loaded.bfcl_cases))),
            "account": table(became),
            "some_quarantined": table(asdict(row) for row in loaded.quarantined[:5]),
            "some_examples": table(_shown(x) for x in islice(read_examples(step.work / TRAIN), 5)),
        }

    return ws.produce("examples", make, quarantine_rows)


def splits(ws: Workspace) -> Produced:
    """Training and validation parts, difficulty (Eq. 1), and the replay buffer's random half (Section 3.2)."""

    def make(step: Step) -> dict[str, Any]:
        data, e = ws.input("examples"), ws.experiment
        bounds = Thresholds(**e.split.difficulty.model_dump())
        measures = ["example_id", "group_id", "tool_count", "tool_chars", "call_count"]
        found = {row["example_id"]: row for row in read_rows(data.file(TRAIN), measures)}
        held_back = validation_ids({k: r["group_id"] for k, r in found.items()}, e.split.validation_fraction, e.seed)
        buffer = set(draw_buffer([k for k in found if k not in held_back], e.replay_buffer.fraction, e.seed))
        rows = [
            {
                "example_id": key,
                "group_id": row["group_id"],
                "split": "validation" if key in held_back else "train",
                "difficulty": str(difficulty(size_of(row), bounds)),
                "in_buffer": key in buffer,
            }
            for key, row in found.items()
        ]
        pq.write_table(pa.Table.from_pylist(rows), step.work / SPLITS)
        # Whatever trains or searches reads the examples here, so that its inputs are what its lineage says.
        divided = _divided(data, {row["example_id"]: row for row in rows}, bounds)
        write_examples(step.work / EXAMPLES, divided, SPLIT_SCHEMA)
        counts = Counter((row["difficulty"], row["split"]) for row in rows)
        return {
            "train_examples": len(found) - len(held_back),
            "validation_examples": len(held_back),
            "buffer_examples": len(buffer),
            "by_difficulty": table(
                {"difficulty": d, "split": s, "examples": n} for (d, s), n in sorted(counts.items())
            ),
        }

    return ws.produce("splits", make, lambda artifact: {"examples": [artifact.file(EXAMPLES)]})


def _divided(
    data: Artifact, rows: Mapping[str, Mapping[str, Any]], bounds: Thresholds
) -> Iterator[tuple[Example, Mapping[str, Any]]]:
    """Every example with its columns of SPLIT_SCHEMA, those to be scored last."""
    for example in read_examples(data.file(TRAIN)):
        yield example, {"part": "train", **{key: rows[example.id][key] for key in ("split", "difficulty", "in_buffer")}}
    for example in read_examples(data.file(HELD_OUT)):
        level = str(difficulty(size(example), bounds))
        yield example, {"part": "held_out", "split": None, "difficulty": level, "in_buffer": False}


def split_rows(ws: Workspace) -> dict[str, dict[str, Any]]:
    """Example id → its row in the asset `splits`, in the data's order."""
    rows = pq.read_table(ws.input("splits").file(SPLITS)).to_pylist()
    return {row["example_id"]: row for row in rows}


def each_training_example(ws: Workspace, ids: Collection[str] | None = None) -> Iterator[Example]:
    """Every example to train or validate on, or those with these ids, in the data's order; few are held at a time."""
    return read_examples(ws.input("splits").file(EXAMPLES), ids, part="train")


def training_examples(ws: Workspace, ids: Collection[str] | None = None) -> dict[str, Example]:
    """The same by id, all held at once: for few."""
    return {example.id: example for example in each_training_example(ws, ids)}


def held_out(ws: Workspace) -> dict[str, Example]:
    """The held-out pool, by id."""
    pool, _ = read_pool(ws.input("examples").file(HELD_OUT))
    return {example.id: example for example in pool}


def held_out_sizes(ws: Workspace) -> Counter[str]:
    """Category → how many cases of the held-out pool it has."""
    return Counter(row["category"] for row in read_rows(ws.input("examples").file(HELD_OUT), ["category"]))


def cases(ws: Workspace) -> dict[str, Example]:
    """Every BFCL case of one turn to be scored, by id: what the config draws from the held-out pool."""
    chosen, _ = drawn_cases(ws)
    return {example.id: example for example in chosen}


def drawn_cases(ws: Workspace) -> tuple[tuple[Example, ...], Counter[str]]:
    """The cases of one turn to be scored; and how many, of the categories asked for, cannot be, by reason."""
    e, asked = ws.experiment, ws.experiment.evaluation.bfcl
    limits = (asked.categories, asked.max_prompt_tokens, asked.cases_per_category)
    chosen, unfit = draw_from(ws.input("examples").file(HELD_OUT), *limits, e.seed)
    if not chosen and not set(e.evaluation.bfcl.categories) & set(BFCL_MULTI_TURN):
        raise StepError(f"experiment {e.name}: evaluation.bfcl leaves no case; raise its max_prompt_tokens")
    return chosen, unfit


def draw_from(
    pool: Path, categories: Collection[str], max_tokens: int, limit: int | None, seed: int
) -> tuple[tuple[Example, ...], Counter[str]]:
    """At most `limit` cases of each category, out of a file of `write_pool`; and how many do not fit, by reason."""
    examples, tokens = read_pool(pool)
    return choose_cases(examples, categories, max_tokens, limit, seed, lambda example: tokens[example.id])


def prompt_tokens(template: Chat, example: Example) -> int | None:
    """Tokens of the example's prompt; None when the model's chat template refuses it."""
    try:
        return len(template.prompt(example))
    except ChatTemplateError:
        return None


def write_pool(path: Path, pool: Iterable[Example], tokens: TokenCount) -> None:
    """Cases with the length of their prompts in tokens, so that reading them needs no model."""
    write_examples(path, ((x, {"prompt_tokens": tokens(x)}) for x in pool), PROMPT_SCHEMA)


def read_pool(path: Path) -> tuple[list[Example], dict[str, int | None]]:
    """The cases, and case id → tokens of its prompt."""
    tokens = {row["example_id"]: row["prompt_tokens"] for row in read_rows(path, ["example_id", "prompt_tokens"])}
    return list(read_examples(path)), tokens


def write_quarantine(path: Path, rows: Iterable[Quarantined]) -> None:
    """What could not be read, with the reasons."""
    write_table_file(path, QUARANTINE, map(asdict, rows))


def quarantine_rows(artifact: Artifact) -> dict[str, Rows]:
    """The artifact's rows of the table `quarantine`."""
    return {"quarantine": [artifact.file(QUARANTINE_FILE)]}


def account(ws: Workspace) -> Account:
    """What became of the rows of each source."""
    rows: Account = Parts(ws.input("examples").path).read_json(ACCOUNT)
    return rows


def _by_category(train: Counter[str], held_out: Counter[str]) -> list[dict[str, Any]]:
    return [{"category": c, "train": train[c], "held_out": held_out[c]} for c in sorted(train | held_out)]


def _shown(example: Example) -> dict[str, Any]:
    return {"id": example.id, "category": example.category, "question": example.question, "answer": example.response}

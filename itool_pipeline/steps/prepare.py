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

from itool_pipeline.benchmarks.registry import BENCHMARKS
from itool_pipeline.config import DifficultyConfig, Experiment
from itool_pipeline.core.difficulty import difficulty_of
from itool_pipeline.core.replay_buffer import draw_buffer
from itool_pipeline.core.splits import validation_ids
from itool_pipeline.core.types import Example
from itool_pipeline.data.base_model import prepare_base_model
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import load_data
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

TRAIN, ACCOUNT = "train.parquet", "account.json"
"""Of `examples`. ACCOUNT: what became of every row of each source, with counts."""
SPLITS, EXAMPLES = "splits.parquet", "examples.parquet"
"""Of `splits`. SPLITS has an example's group and where it goes; EXAMPLES is the table `examples`."""

SPLIT_SCHEMA = pa.schema(
    [("part", pa.string()), ("split", pa.string()), ("difficulty", pa.string()), ("in_buffer", pa.bool_())]
)


def base_model(ws: Workspace) -> Produced:
    """The base model's weights and tokenizer in safetensors."""
    return ws.produce("base_model", lambda s: prepare_base_model(ws.experiment.model, ws.paths.downloads, s.work))


def examples(ws: Workspace) -> Produced:
    """Examples to train on, and what became of every other row, with the reason."""

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
            e.data,
            ws.paths.downloads,
            e.seed,
            asked=asked_in_tests(e, ws.paths.downloads),
            token_count=tokens,
            fits=fits,
            progress=ws.progress,
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
        write_quarantine(step.work / QUARANTINE_FILE, loaded.quarantined)
        Parts(step.work).write_json(ACCOUNT, became)
        categories = Counter(row["category"] for row in read_rows(step.work / TRAIN, ["category"]))
        return {
            "train_examples": len(loaded.train),
            "quarantined": len(loaded.quarantined),
            "left_out": sum(loaded.left_out.values()),
            "tools_shown_by": template.tools_shown_by,
            "tokenised_alone": alone[True],
            "data_commit": loaded.commit or None,
            "by_category": table({"category": name, "train": count} for name, count in sorted(categories.items())),
            "account": table(became),
            "some_quarantined": table(asdict(row) for row in loaded.quarantined[:5]),
            "some_examples": table(_shown(x) for x in islice(read_examples(step.work / TRAIN), 5)),
        }

    return ws.produce("examples", make, quarantine_rows)


def splits(ws: Workspace) -> Produced:
    """Training and validation parts, difficulty (Eq. 1), and the replay buffer's random half (Section 3.2)."""

    def make(step: Step) -> dict[str, Any]:
        data, e = ws.input("examples"), ws.experiment
        bounds = e.split.difficulty
        measures = ["example_id", "group_id", "tool_count", "tool_chars", "call_count"]
        found = {row["example_id"]: row for row in read_rows(data.file(TRAIN), measures)}
        held_back = validation_ids({k: r["group_id"] for k, r in found.items()}, e.split.validation_fraction, e.seed)
        buffer = set(draw_buffer([k for k in found if k not in held_back], e.replay_buffer.fraction, e.seed))
        rows = [
            {
                "example_id": key,
                "group_id": row["group_id"],
                "split": "validation" if key in held_back else "train",
                "difficulty": str(difficulty_of(size_of(row), bounds)),
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
    data: Artifact, rows: Mapping[str, Mapping[str, Any]], bounds: DifficultyConfig
) -> Iterator[tuple[Example, Mapping[str, Any]]]:
    """Every example with its columns of SPLIT_SCHEMA."""
    for example in read_examples(data.file(TRAIN)):
        yield example, {"part": "train", **{key: rows[example.id][key] for key in ("split", "difficulty", "in_buffer")}}


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


def asked_in_tests(experiment: Experiment, downloads: Path) -> frozenset[bytes]:
    """The signatures of all that the reserved benchmarks may ask: what has one of them is not trained on."""
    return frozenset(
        signature
        for benchmark in BENCHMARKS
        if benchmark.reserved
        for question in benchmark.questions(experiment, downloads)
        for signature in benchmark.case_signatures(question)
    )


def prompt_tokens(template: Chat, example: Example) -> int | None:
    """Tokens of the example's prompt; None when the model's chat template refuses it."""
    try:
        return len(template.prompt(example))
    except ChatTemplateError:
        return None


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


def _shown(example: Example) -> dict[str, Any]:
    return {"id": example.id, "category": example.category, "question": example.question, "answer": example.response}

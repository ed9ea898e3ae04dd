"""What was trained on as data sets in TRL's layouts, in Parquet: preference pairs, and the warm-up's examples.

Messages have `role` and `content` alone, and `tools` is JSON text, which TRL reads: in Parquet's columns the objects of
one row would get the keys of all others. A chat template shows calls as text as it shows the same calls as objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.calls.tool_schema import Tool
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.openai_messages import openai_tools
from itool_pipeline.engines.chat import Chat
from itool_pipeline.files.json_text import to_json
from itool_pipeline.steps.artifact_files import PAIRS_FILE
from itool_pipeline.steps.example_access import each_training_example, split_rows, training_examples
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows

PAIRS_FOLDER, SFT_FOLDER = "data/preference_pairs", "data/sft"
"""In an exported folder."""

_ROWS = 500
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PAIRS = pa.schema(
    [
        *(("prompt", _TURNS), ("chosen", _TURNS), ("rejected", _TURNS), ("tools", pa.string())),
        *(("prefix", pa.string()), ("chosen_ends", pa.bool_()), ("rejected_ends", pa.bool_())),
        *(("iteration", pa.int32()), ("pair_id", pa.string()), ("example_id", pa.string())),
        *(("chosen_q", pa.float64()), ("rejected_q", pa.float64())),
    ]
)
_SFT = pa.schema(
    [("messages", _TURNS), ("tools", pa.string()), ("example_id", pa.string()), ("difficulty", pa.string())]
)


def write_pairs(ws: Workspace, chat: Chat, folder: Path) -> int:
    """The kept pairs of all iterations; returns how many.

    A pair is of steps: its two answers are one prefix and two fragments behind it. `chosen_ends` and `rejected_ends`
    say whether the fragment ended the turn; where it did not, the answer goes on, and its turn has no end to learn.
    """
    return _write(folder / "train.parquet", _PAIRS, _pair_rows(ws, chat))


def write_sft(ws: Workspace, chat: Chat, folder: Path) -> dict[str, int]:
    """The warm-up's training and validation examples; split → how many."""
    rows = split_rows(ws)
    found = {}
    for split in ("train", "validation"):
        ids = {key for key, row in rows.items() if row.split == split}
        if ids:
            examples = each_training_example(ws, ids)
            made = (_sft_row(chat, example, rows[example.id].difficulty) for example in examples)
            found[split] = _write(folder / f"{split}.parquet", _SFT, made)
    return found


def _pair_rows(ws: Workspace, chat: Chat) -> Iterator[dict[str, Any]]:
    columns = ["pair_id", "tree_id", "prefix", "chosen", "rejected", "chosen_q", "rejected_q", "kept"]
    for k in range(1, ws.experiment.iterations + 1):
        file = ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE)
        read = read_table_rows(file, [*columns, "chosen_ids", "rejected_ids"])
        while batch := list(islice((row for row in read if row["kept"]), _ROWS)):
            examples = training_examples(ws, {row["tree_id"] for row in batch})
            for row in batch:
                yield _pair_row(row, k, examples[row["tree_id"]], chat)


def _pair_row(row: Mapping[str, Any], k: int, example: Example, chat: Chat) -> dict[str, Any]:
    return {
        "prompt": _turns(example.messages),
        **{side: _turns([Message("assistant", row["prefix"] + row[side])]) for side in ("chosen", "rejected")},
        "tools": _tools(example.tools, chat),
        "prefix": row["prefix"],
        **{f"{side}_ends": row[f"{side}_ids"][-1:] == [chat.end_token] for side in ("chosen", "rejected")},
        "iteration": k,
        "pair_id": row["pair_id"],
        "example_id": example.id,
        "chosen_q": row["chosen_q"],
        "rejected_q": row["rejected_q"],
    }


def _sft_row(chat: Chat, example: Example, difficulty: str) -> dict[str, Any]:
    turns = _turns([*example.messages, Message("assistant", example.response)])
    return {
        "messages": turns,
        "tools": _tools(example.tools, chat),
        "example_id": example.id,
        "difficulty": difficulty,
    }


def _turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _tools(tools: Sequence[Tool], chat: Chat) -> str:
    return to_json(openai_tools(tools, types=chat.tools_shown_by == "template"))


def _write(file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    remaining, written = iter(rows), 0
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(remaining, _ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            written += len(batch)
    return written

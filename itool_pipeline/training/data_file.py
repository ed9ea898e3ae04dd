"""The data of a training job: a Parquet file of token ids, training and validation items together, in their order.

Columns: `name` (the example's id, for messages), `split` (`train` or `validation`), `prompt` (token ids), and

- for `sft`: `response`, token ids that end with the token that ends a turn;
- for `preference`: `pairs`, a list of (`path`, `chosen`, `rejected`), each token ids after the prompt, and `gold`, the
  gold answer, which may be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itool_pipeline.files.durable import write_whole
from itool_pipeline.training.items import PreferenceRow, SftItem, T, TokenPair, TrainingData
from itool_pipeline.training.job import TrainingError

SPLITS = ("train", "validation")

_TOKENS = pa.list_(pa.int32())
_COMMON = [("name", pa.string()), ("split", pa.string()), ("prompt", _TOKENS)]
_PAIR = pa.struct([("path", _TOKENS), ("chosen", _TOKENS), ("rejected", _TOKENS)])
SFT_SCHEMA = pa.schema([*_COMMON, ("response", _TOKENS)])
PREFERENCE_SCHEMA = pa.schema([*_COMMON, ("pairs", pa.list_(_PAIR)), ("gold", _TOKENS)])


def write_sft_data(path: Path, data: TrainingData[SftItem]) -> None:
    """Write the file; it appears whole or not at all."""
    _write(path, SFT_SCHEMA, data, lambda item: {"response": item.response})


def write_preference_data(path: Path, data: TrainingData[PreferenceRow]) -> None:
    """Write the file; it appears whole or not at all. References are not written: a training measures its own."""

    def pairs(row: PreferenceRow) -> Mapping[str, Any]:
        steps = [{"path": p.path, "chosen": p.chosen, "rejected": p.rejected} for p in row.pairs]
        return {"pairs": steps, "gold": row.gold}

    _write(path, PREFERENCE_SCHEMA, data, pairs)


def read_sft_data(path: Path) -> TrainingData[SftItem]:
    """Items in the file's order. Raises TrainingError when the file is missing, of another kind, or has a bad row."""
    return _read(path, SFT_SCHEMA, lambda row: SftItem(row["name"], tuple(row["prompt"]), tuple(row["response"])))


def read_preference_data(path: Path) -> TrainingData[PreferenceRow]:
    """Rows in the file's order. Raises TrainingError as `read_sft_data` does."""

    def pair(row: Mapping[str, Any]) -> TokenPair:
        return TokenPair(tuple(row["path"]), tuple(row["chosen"]), tuple(row["rejected"]))

    def item(row: Mapping[str, Any]) -> PreferenceRow:
        prompt, gold = tuple(row["prompt"]), tuple(row["gold"])
        return PreferenceRow(row["name"], prompt, tuple(map(pair, row["pairs"])), gold)

    return _read(path, PREFERENCE_SCHEMA, item)


def _write(path: Path, schema: pa.Schema, data: TrainingData[T], own: Callable[[T], Mapping[str, Any]]) -> None:
    rows = [
        {"name": item.name, "split": split, "prompt": item.prompt, **own(item)}
        for split, items in zip(SPLITS, (data.train, data.validation), strict=True)
        for item in items
    ]
    table = pa.Table.from_pylist(rows, schema)
    write_whole(path, lambda scratch: pq.write_table(table, scratch), alone=True)


def _read(path: Path, schema: pa.Schema, item: Callable[[Mapping[str, Any]], T]) -> TrainingData[T]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(f"{path}: cannot be read as Parquet: {error}") from error
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise TrainingError(f"{path}: lacks the columns {', '.join(missing)} (see itool_pipeline.training.data_file)")
    parts: dict[str, list[T]] = {split: [] for split in SPLITS}
    for number, row in enumerate(table.select(schema.names).to_pylist()):
        try:
            parts[row["split"]].append(item(row))
        except (KeyError, TypeError, ValueError) as error:
            told = f"split is {error}, not train or validation" if isinstance(error, KeyError) else error
            raise TrainingError(f"{path}: row {number}: {told}") from error
    return TrainingData(*(parts[split] for split in SPLITS))

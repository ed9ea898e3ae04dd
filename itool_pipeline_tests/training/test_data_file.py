"""Token ids in a file: what is written is read, and what cannot be trained on is refused with its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itool_pipeline.training.data_file import (
    PREFERENCE_SCHEMA,
    SFT_SCHEMA,
    read_preference_data,
    read_sft_data,
    write_preference_data,
    write_sft_data,
)
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData
from itool_pipeline.training.job import TrainingError

SFT_ITEMS = (SftItem("a", (5, 6), (7, 2)), SftItem("b", (8,), (9,)), SftItem("c", (49151,), (1, 2)))
ROWS = (
    PreferenceRow("t", (5, 6), (TokenPair((), (1,), (2, 3)), TokenPair((1,), (4,), (5,)))),
    PreferenceRow("u", (7,), (TokenPair((9, 9), (1, 1), (2,)),), gold=(1, 49151)),
)


def test_sft_items_come_back_in_their_order_and_part(tmp_path: Path) -> None:
    for data in (TrainingData(SFT_ITEMS[:2], SFT_ITEMS[2:]), TrainingData(SFT_ITEMS[::-1])):
        write_sft_data(tmp_path / "data.parquet", data)
        read = read_sft_data(tmp_path / "data.parquet")
        assert (list(read.train), list(read.validation)) == (list(data.train), list(data.validation))


def test_pairs_come_back_without_references(tmp_path: Path) -> None:
    measured = ROWS[0].measured([(-1.0, -2.0), (-3.0, -4.0)])
    write_preference_data(tmp_path / "data.parquet", TrainingData([measured], ROWS[1:]))
    read = read_preference_data(tmp_path / "data.parquet")
    assert (list(read.train), list(read.validation)) == ([ROWS[0]], [ROWS[1]])


def sft_row(**over: Any) -> dict[str, Any]:
    return {"name": "x", "split": "train", "prompt": [1], "response": [2], **over}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (sft_row(response=[]), "row 1: x: an example needs a prompt and a response"),
        (sft_row(prompt=None), "row 1: "),
        (sft_row(split="test"), "row 1: split is 'test', not train or validation"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist([sft_row(), row], SFT_SCHEMA), path)
    with pytest.raises(TrainingError, match=f"data.parquet: {told}"):
        read_sft_data(path)


def test_an_empty_branch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pair = {"path": [], "chosen": [1], "rejected": []}
    row = {"name": "x", "split": "train", "prompt": [1], "pairs": [pair], "gold": []}
    pq.write_table(pa.Table.from_pylist([row], PREFERENCE_SCHEMA), path)
    with pytest.raises(TrainingError, match="row 0: chosen and rejected need at least one token"):
        read_preference_data(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    with pytest.raises(TrainingError, match=r"cannot be read as Parquet.*"):
        read_sft_data(path)
    path.write_text("name,split")
    with pytest.raises(TrainingError, match="cannot be read as Parquet"):
        read_sft_data(path)
    write_sft_data(path, TrainingData(SFT_ITEMS))
    with pytest.raises(TrainingError, match="lacks the columns pairs, gold"):
        read_preference_data(path)

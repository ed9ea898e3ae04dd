"""What other steps read of `examples` and `splits`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from itool_pipeline.core.replay_buffer import draw_buffer
from itool_pipeline.core.reward import SearchProblem
from itool_pipeline.core.types import Example
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.account import Account
from itool_pipeline.steps.artifact_files import ACCOUNT_FILE, SPLITS_FILE, TRAIN_FILE
from itool_pipeline.steps.example_files import (
    ResponseTokens,
    read_examples,
    read_problems,
    read_response_tokens,
    read_tool_lengths,
)
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.table_files import read_table_rows


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A row of the table `splits`, where its columns are explained."""

    example_id: str
    group_id: str
    split: Literal["train", "unseen", "validation", "unused"]
    difficulty: str


def split_rows(ws: Workspace) -> dict[str, SplitRow]:
    """Example id → where it goes, in the data's order."""
    rows = (SplitRow(**row) for row in read_table_rows(ws.input("splits").file(SPLITS_FILE)))
    return {row.example_id: row for row in rows}


def buffered_rows(ws: Workspace) -> dict[str, SplitRow]:
    """The replay buffer's members, in every iteration the same: a random part of the training part (Section 3.2), or of
    what the warm-up left unseen of it.

    They are drawn where they are asked for, not in `splits`, so that a warm-up does not depend on how many they are.
    """
    rows, e = split_rows(ws), ws.experiment
    unseen, trained = ([key for key, row in rows.items() if row.split == split] for split in ("unseen", "train"))
    return {key: rows[key] for key in draw_buffer(unseen or trained, e.replay_buffer.fraction, e.seed)}


def each_training_example(ws: Workspace, ids: Collection[str] | None = None) -> Iterator[Example]:
    """Every example to train or validate on, or those with these ids, in the data's order; few are held at a time."""
    return read_examples(ws.input("examples").file(TRAIN_FILE), ids)


def training_examples(ws: Workspace, ids: Collection[str]) -> dict[str, Example]:
    """Those with these ids, all held at once: for few."""
    return {example.id: example for example in each_training_example(ws, ids)}


def each_response_tokens(ws: Workspace, ids: Collection[str]) -> Iterator[ResponseTokens]:
    """Prompts and gold responses of these examples as token ids, in the data's order; few are held at a time."""
    return read_response_tokens(ws.input("examples").file(TRAIN_FILE), ids)


def each_problem(ws: Workspace, ids: Collection[str]) -> Iterator[SearchProblem]:
    """These examples as the search takes them, in the data's order; few are held at a time."""
    return read_problems(ws.input("examples").file(TRAIN_FILE), ids)


def tool_lengths(ws: Workspace, ids: Collection[str]) -> dict[str, int]:
    """Example id → characters of its tools as Python shows them: nearly as many as its prompt has, and quickly told."""
    return dict(read_tool_lengths(ws.input("examples").file(TRAIN_FILE), ids))


def source_account(ws: Workspace) -> Account:
    """What became of the rows of each source."""
    rows: Account = Parts(ws.input("examples").path).read_json(ACCOUNT_FILE)
    return rows

"""Preference optimisation on step-level pairs (Section 3.2, Eq. 10 and 11).

The pairs of one search tree share its prompt and much of their paths, so they are computed in one packed row: each
distinct prefix once, logits only where a branch needs them. The prompt of a pair is the tree's prompt plus the path
to the node; chosen and rejected are the tokens of two fragments after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from itool_pipeline.config import PreferenceConfig, PreferenceLoss, ReferenceLoss
from itool_pipeline.core.token_trie import IntArray, PackedRow, pack_row
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training.log_probs import prepare_for_training, token_log_probs
from itool_pipeline.training.losses import PairLogProbs, pair_losses
from itool_pipeline.training.packing import micro_batches
from itool_pipeline.training.trainer import Loss, Objective, TrainingData, TrainingResult, train


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A preference after the path from a tree's root to a node, in token ids. A fragment may not be empty.

    reference  log π_ref of chosen and of rejected, for the losses that compare with a reference policy
    """

    path: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    reference: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.chosen or not self.rejected:
            raise ValueError("chosen and rejected need at least one token each")

    @property
    def depth(self) -> int:
        """Tokens after the tree's prompt, of the longer branch."""
        return len(self.path) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Pairs of one tree. `name` is the example's id; `prompt`, in token ids, may not be empty."""

    name: str
    prompt: tuple[int, ...]
    pairs: tuple[TokenPair, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.pairs:
            raise ValueError(f"{self.name}: a row needs a prompt and a pair")

    def packed(self) -> PackedRow:
        """The row to compute; continuations 2i and 2i + 1 are path and branch of pair i's chosen and rejected."""
        return pack_row(self.prompt, [p.path + branch for p in self.pairs for branch in (p.chosen, p.rejected)])

    @property
    def length(self) -> int:
        """Tokens of the packed row."""
        return len(self.packed())


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is left to train on, and how many pairs were refused or shortened because their prompt is too long."""

    rows: tuple[PreferenceRow, ...]
    refused: int
    cut: int


def fit(rows: Sequence[PreferenceRow], max_tokens: int, overlong: Literal["refuse", "cut_left"] = "refuse") -> Fitted:
    """Rows whose every sequence (prompt, path and branch) has at most `max_tokens` tokens.

    A completion is never touched. `refuse` drops the pairs that are too long; `cut_left` drops the oldest tokens of
    the tree's prompt instead, and refuses only what would leave none of it.
    """
    kept, refused, cut = [], 0, 0
    for row in rows:
        room = max_tokens - (1 if overlong == "cut_left" else len(row.prompt))
        pairs = tuple(pair for pair in row.pairs if pair.depth <= room)
        refused += len(row.pairs) - len(pairs)
        if not pairs:
            continue
        surplus = max(0, len(row.prompt) + max(pair.depth for pair in pairs) - max_tokens)
        cut += len(pairs) if surplus else 0
        kept.append(replace(row, prompt=row.prompt[surplus:], pairs=pairs))
    return Fitted(tuple(kept), refused, cut)


def batches_of_pairs(rows: Sequence[PreferenceRow], size: int) -> list[list[PreferenceRow]]:
    """Steps of exactly `size` pairs (the last may have fewer), in the rows' order; a row is split where one ends."""
    steps: list[list[PreferenceRow]] = []
    room = 0
    for row in rows:
        rest = row.pairs
        while rest:
            if not room:
                steps.append([])
                room = size
            steps[-1].append(replace(row, pairs=rest[:room]))
            taken = len(steps[-1][-1].pairs)
            room, rest = room - taken, rest[taken:]
    return steps


def branch_log_probs(model: Any, rows: Sequence[PreferenceRow]) -> Tensor:
    """[pairs, 2] fp32: log π(chosen) and log π(rejected) after prompt and path, for all pairs, row after row."""
    packed = [row.packed() for row in rows]
    branches = [_branch_spans(row, one) for row, one in zip(rows, packed, strict=True)]
    wanted = [np.unique(np.concatenate(spans)) for spans in branches]
    values = token_log_probs(model, packed, wanted)
    member = torch.zeros(sum(map(len, branches)), len(values))
    line, start = 0, 0
    for spans, indices in zip(branches, wanted, strict=True):
        for span in spans:
            member[line, start + np.searchsorted(indices, span)] = 1.0
            line += 1
        start += len(indices)
    # A product with zeros and ones instead of scattered sums: the same order of additions in every run.
    return (member.to(values.device) @ values).view(-1, 2)


def _branch_spans(row: PreferenceRow, packed: PackedRow) -> list[IntArray]:
    """Row indices of each branch's own tokens, chosen and rejected of pair 0, of pair 1, …"""
    return [span[len(row.pairs[i // 2].path) :] for i, span in enumerate(packed.spans)]


def preference_loss(model: Any, rows: Sequence[PreferenceRow], config: PreferenceLoss) -> Loss:
    """Sum over pairs, counted in pairs; reports `accuracy` (share with a positive margin) and `margin`."""
    log_probs = branch_log_probs(model, rows)
    pairs = [pair for row in rows for pair in row.pairs]
    lengths = log_probs.new_tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
    old = [pair.reference for pair in pairs if pair.reference is not None]
    reference = log_probs.new_tensor(old).unbind(1) if len(old) == len(pairs) else ()
    values = pair_losses(PairLogProbs(*log_probs.unbind(1), *lengths.unbind(1), *reference), config)
    margin = values.margin.detach()
    return Loss(values.loss.sum(), len(pairs), {"accuracy": float((margin > 0).sum()), "margin": float(margin.sum())})


def with_reference(
    model: Any, rows: Sequence[PreferenceRow], reference: Literal["start", "base"], micro_batch_tokens: int
) -> tuple[PreferenceRow, ...]:
    """The rows with the reference's log-probabilities of their branches.

    The reference is `model` as it is now (`start`), or with its adapter switched off (`base`).
    """
    model.eval()
    policy = model.disable_adapter() if reference == "base" else nullcontext()
    with torch.no_grad(), policy:
        return _measured(model, rows, micro_batch_tokens)


def _measured(model: Any, rows: Sequence[PreferenceRow], micro_batch_tokens: int) -> tuple[PreferenceRow, ...]:
    done: dict[int, PreferenceRow] = {}
    numbered = list(enumerate(rows))
    for group in micro_batches(numbered, lambda entry: entry[1].length, micro_batch_tokens):
        values = iter(branch_log_probs(model, [row for _, row in group]).tolist())
        for index, row in group:
            pairs = tuple(replace(pair, reference=tuple(next(values))) for pair in row.pairs)
            done[index] = replace(row, pairs=pairs)
    return tuple(done[index] for index in range(len(rows)))


def train_preference(
    model: Any,
    data: TrainingData[PreferenceRow],
    config: PreferenceConfig,
    seed: int,
    parts: Path,
    out: Path,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train the adapter of peft's `model` on pairs; see `trainer.train` for the rest.

    An optimizer step counts pairs. The reference's log-probabilities, for DPO and IPO, are computed once, before
    anything is trained, and cost no memory beside the model. `model` must therefore hold the start weights also when
    a killed training goes on.
    """
    prepare_for_training(model)
    if isinstance(config.loss, ReferenceLoss):
        how = (config.loss.reference, config.optimizer.micro_batch_tokens)
        data = TrainingData(with_reference(model, data.train, *how), with_reference(model, data.validation, *how))
    objective = Objective[PreferenceRow](
        loss=lambda rows: preference_loss(model, rows, config.loss),
        length=lambda row: row.length,
        steps=batches_of_pairs,
    )
    return train(model, data, objective, config.optimizer, seed, parts, out, progress)

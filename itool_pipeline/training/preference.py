"""Preference optimisation on step-level pairs (Section 3.2, Eq. 10 and 11).

The pairs of one search tree share its prompt and much of their paths, so they are computed in one packed row: each
distinct prefix once, logits only where a branch needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from itool_pipeline.config import PreferenceLoss, ReferenceLoss
from itool_pipeline.core.token_trie import IntArray, PackedRow
from itool_pipeline.training.items import PreferenceRow, batches_of_pairs
from itool_pipeline.training.log_probs import LogProbs
from itool_pipeline.training.losses import PairLogProbs, pair_losses
from itool_pipeline.training.packing import micro_batches
from itool_pipeline.training.trainer import Loss, Objective


def branch_log_probs(log_probs: LogProbs, rows: Sequence[PreferenceRow]) -> Tensor:
    """[pairs, 2] fp32: log π(chosen) and log π(rejected) after prompt and path, for all pairs, row after row."""
    packed = [row.packed for row in rows]
    branches = [_branch_spans(row, one) for row, one in zip(rows, packed, strict=True)]
    # Branches of one node may begin alike, and one fragment may be in several pairs: each token is asked for once.
    wanted = [np.unique(np.concatenate(spans)) for spans in branches]
    values = log_probs(packed, wanted)
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


def preference_loss(log_probs: LogProbs, rows: Sequence[PreferenceRow], config: PreferenceLoss) -> Loss:
    """Sum over pairs, counted in pairs; reports `accuracy` (share with a positive margin) and `margin`."""
    sums = branch_log_probs(log_probs, rows)
    pairs = [pair for row in rows for pair in row.pairs]
    lengths = sums.new_tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
    old = [pair.reference for pair in pairs if pair.reference is not None]
    reference = sums.new_tensor(old).unbind(1) if len(old) == len(pairs) else ()
    values = pair_losses(PairLogProbs(*sums.unbind(1), *lengths.unbind(1), *reference), config)
    margin = values.margin.detach()
    return Loss(values.loss.sum(), len(pairs), {"accuracy": float((margin > 0).sum()), "margin": float(margin.sum())})


def with_reference(
    model: Any,
    log_probs: LogProbs,
    rows: Sequence[PreferenceRow],
    reference: Literal["start", "base"],
    micro_batch_tokens: int,
) -> tuple[PreferenceRow, ...]:
    """The rows with the reference's log-probabilities of their branches.

    The reference is peft's `model`, which `log_probs` asks, as it is now (`start`), or with its adapter switched off
    (`base`).
    """
    model.eval()
    done: dict[int, PreferenceRow] = {}
    policy = model.disable_adapter() if reference == "base" else nullcontext()
    with torch.no_grad(), policy:
        for group in micro_batches(range(len(rows)), lambda index: rows[index].length, micro_batch_tokens):
            values = iter(branch_log_probs(log_probs, [rows[index] for index in group]).tolist())
            for index in group:
                done[index] = rows[index].measured([next(values) for _ in rows[index].pairs])
    return tuple(done[index] for index in range(len(rows)))


def preference_objective(config: PreferenceLoss) -> Objective[PreferenceRow]:
    """An optimizer step counts pairs.

    The reference's log-probabilities, for DPO and IPO, are computed once, before anything is trained, and cost no
    memory beside the model.
    """

    def loss(log_probs: LogProbs, rows: Sequence[PreferenceRow]) -> Loss:
        return preference_loss(log_probs, rows, config)

    def start(model: Any, log_probs: LogProbs, rows: Sequence[PreferenceRow], budget: int) -> Sequence[PreferenceRow]:
        if not isinstance(config, ReferenceLoss):
            return rows
        return with_reference(model, log_probs, rows, config.reference, budget)

    return Objective(config.model_dump_json(), loss, batches_of_pairs, start, metrics=("accuracy", "margin"))

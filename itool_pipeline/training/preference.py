"""Preference optimisation on step-level pairs (Section 3.2, Eq. 10 and 11).

The pairs of one search tree share its prompt and much of their paths, so they are computed in one packed row: each
distinct prefix once, logits only where a branch needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from itool_pipeline.config import PreferenceLoss, ReferenceLoss
from itool_pipeline.core.token_trie import IntArray
from itool_pipeline.training.items import PreferenceRow, batches_of_pairs
from itool_pipeline.training.log_probs import LogProbs
from itool_pipeline.training.losses import PairLogProbs, pair_losses
from itool_pipeline.training.packing import micro_batches
from itool_pipeline.training.trainer import Loss, Objective


def branch_log_probs(log_probs: LogProbs, rows: Sequence[PreferenceRow]) -> Tensor:
    """[pairs, 2] fp32: log π(chosen) and log π(rejected) after prompt and path, for all pairs, row after row."""
    return _span_log_probs(log_probs, rows, [_branch_spans(row) for row in rows]).view(-1, 2)


def _span_log_probs(
    log_probs: LogProbs, rows: Sequence[PreferenceRow], branches: Sequence[Sequence[IntArray]]
) -> Tensor:
    """[spans] fp32: the summed log-probability of each span of each row, row after row."""
    # Branches of one node may begin alike, and one fragment may be in several pairs: each token is asked for once.
    wanted = [np.unique(np.concatenate(spans)) for spans in branches]
    values = log_probs([row.packed for row in rows], wanted)
    member = torch.zeros(sum(map(len, branches)), len(values))
    line, start = 0, 0
    for spans, indices in zip(branches, wanted, strict=True):
        for span in spans:
            member[line, start + np.searchsorted(indices, span)] = 1.0
            line += 1
        start += len(indices)
    # A product with zeros and ones instead of scattered sums: the same order of additions in every run.
    return member.to(values.device) @ values


def _branch_spans(row: PreferenceRow) -> list[IntArray]:
    """Row indices of each branch's own tokens, chosen and rejected of pair 0, of pair 1, …"""
    spans = row.packed.spans[: 2 * len(row.pairs)]
    return [span[len(row.pairs[i // 2].path) :] for i, span in enumerate(spans)]


def preference_loss(
    log_probs: LogProbs, rows: Sequence[PreferenceRow], config: PreferenceLoss, token_weight: float = 0.0
) -> Loss:
    """Sum over pairs and gold answers, counted by the rows' sizes; reports of the pairs `accuracy` (share with a
    positive margin) and `margin`.

    token_weight  of the negative log-likelihood of each token of the rows' gold answers
    """
    with_gold = [bool(token_weight and row.gold) for row in rows]
    branches = [
        _branch_spans(row) + ([row.packed.spans[-1]] if own else []) for row, own in zip(rows, with_gold, strict=True)
    ]
    every = _span_log_probs(log_probs, rows, branches)
    sums, gold = _parted(every, rows, with_gold)
    pairs = [pair for row in rows for pair in row.pairs]
    lengths = sums.new_tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs]).view(-1, 2)
    old = [pair.reference for pair in pairs if pair.reference is not None]
    reference = sums.new_tensor(old).view(-1, 2).unbind(1) if len(old) == len(pairs) else ()
    values = pair_losses(PairLogProbs(*sums.unbind(1), *lengths.unbind(1), *reference), config)
    margin, total = values.margin.detach(), values.loss.sum()
    if gold is not None:
        total = total - token_weight * gold
    reported = {"accuracy": float((margin > 0).sum()), "margin": float(margin.sum())}
    return Loss(total, sum(row.size for row in rows), {name: (value, len(pairs)) for name, value in reported.items()})


def _parted(every: Tensor, rows: Sequence[PreferenceRow], with_gold: Sequence[bool]) -> tuple[Tensor, Tensor | None]:
    """[pairs, 2], the sums of the branches; and the sum of the gold answers' log-likelihoods."""
    of_row = ([False] * (2 * len(row.pairs)) + [True] * own for row, own in zip(rows, with_gold, strict=True))
    of_gold = torch.tensor(list(chain.from_iterable(of_row)), dtype=torch.bool, device=every.device)
    return every[~of_gold].view(-1, 2), every[of_gold].sum() if any(with_gold) else None


def gold_token_weight(gold_weight: float, rows: Sequence[PreferenceRow]) -> float:
    """The weight of each token, where a gold answer of the mean length among `rows` weighs `gold_weight`.

    All tokens weigh the same, as in SFT (Eq. 2). Were it the answers, the first token of an abstention, which has few
    others, would weigh several times as much as the one that begins a call, and the policy would learn to abstain.
    """
    lengths = [len(row.gold) for row in rows if row.gold]
    return gold_weight / fmean(lengths) if lengths else 0.0


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
    done, with_pairs = dict(enumerate(rows)), [index for index, row in enumerate(rows) if row.pairs]
    policy = model.disable_adapter() if reference == "base" else nullcontext()
    with torch.no_grad(), policy:
        for group in micro_batches(with_pairs, lambda index: rows[index].length, micro_batch_tokens):
            values = iter(branch_log_probs(log_probs, [rows[index] for index in group]).tolist())
            for index in group:
                done[index] = rows[index].measured([next(values) for _ in rows[index].pairs])
    return tuple(done[index] for index in range(len(rows)))


def preference_objective(config: PreferenceLoss, token_weight: float = 0.0) -> Objective[PreferenceRow]:
    """An optimizer step counts pairs; `token_weight` is that of each token of a gold answer.

    The reference's log-probabilities, for DPO and IPO, are computed once, before anything is trained, and cost no
    memory beside the model.
    """

    def loss(log_probs: LogProbs, rows: Sequence[PreferenceRow]) -> Loss:
        return preference_loss(log_probs, rows, config, token_weight)

    def start(model: Any, log_probs: LogProbs, rows: Sequence[PreferenceRow], budget: int) -> Sequence[PreferenceRow]:
        if not isinstance(config, ReferenceLoss):
            return rows
        return with_reference(model, log_probs, rows, config.reference, budget)

    # Without a weight the name is that of the loss alone.
    name = config.model_dump_json() + (f" + {token_weight} gold" if token_weight else "")
    return Objective(name, loss, batches_of_pairs, start, metrics=("accuracy", "margin"))

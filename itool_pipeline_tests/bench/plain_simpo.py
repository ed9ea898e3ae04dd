"""SimPO as one writes it by hand with transformers and peft: a row for each branch, logits where a loss needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from itool_pipeline.config import SimpoLoss
from itool_pipeline.training.items import PreferenceRow
from itool_pipeline_tests.bench.worker import Turns

Branch = tuple[tuple[int, ...], tuple[int, ...]]
"""What stands before, and the tokens that the loss is computed of."""


def play_plain_simpo(
    model: Any,
    rows: Sequence[PreferenceRow],
    loss: SimpoLoss,
    learning_rate: float,
    pass_tokens: int,
    turns: Turns,
) -> None:
    """Rounds of one optimizer step over all pairs, in passes of at most `pass_tokens` padded tokens."""
    pairs = list(branches(rows))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
    together = max(1, pass_tokens // (2 * max(len(before) + len(own) for pair in pairs for before, own in pair)))
    model.train()
    while True:
        turns.await_turn()
        total = 0.0
        for start in range(0, len(pairs), together):
            losses = simpo_losses(model, pairs[start : start + together], loss)
            (losses.sum() / len(pairs)).backward()
            total += float(losses.detach().sum())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        turns.report(loss=total / len(pairs))


def branches(rows: Sequence[PreferenceRow]) -> Iterator[tuple[Branch, Branch]]:
    """Chosen and rejected of every pair."""
    for row in rows:
        for pair in row.pairs:
            before = row.prompt + pair.path
            yield (before, pair.chosen), (before, pair.rejected)


def simpo_losses(model: Any, pairs: Sequence[tuple[Branch, Branch]], loss: SimpoLoss) -> Tensor:
    """[pairs] losses (Eq. 11), in one pass over rows that are padded on the left."""
    rows = [*(chosen for chosen, _ in pairs), *(rejected for _, rejected in pairs)]
    width, longest = max(len(a) + len(b) for a, b in rows), max(len(own) for _, own in rows)
    tokens, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
    asked = torch.zeros(len(rows), longest)
    for i, (before, own) in enumerate(rows):
        tokens[i, width - len(before) - len(own) :] = torch.tensor([*before, *own])
        mask[i, width - len(before) - len(own) :] = 1
        asked[i, longest - len(own) :] = 1
    logits = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits[:, :-1]
    values = logits.float().log_softmax(-1).gather(-1, tokens[:, -longest:, None])[..., 0]
    chosen, rejected = ((values * asked).sum(-1) / asked.sum(-1)).chunk(2)
    return -F.logsigmoid(loss.beta * (chosen - rejected) - loss.gamma)

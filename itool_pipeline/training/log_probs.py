"""Log-probabilities of chosen tokens of packed rows, with gradients, computing logits only where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from itool_pipeline.core.token_trie import IntArray, PackedRow, ancestor_mask
from itool_pipeline.engines.model import ModelError
from itool_pipeline.training.fused import DENSE_ATTENTION, use_fused_lora

Kernels = Literal["fused", "plain"]
"""`fused`: the LoRA layers, and on a CPU the attention, of `training.fused`; `plain`: peft's and PyTorch's own."""

LogProbs = Callable[[Sequence[PackedRow], Sequence[IntArray]], Tensor]
"""A `TokenLogProbs`, or what a launcher has wrapped around it."""

_PROBE = 8


class TokenLogProbs(nn.Module):  # type: ignore[misc]
    """log π(token | its ancestors) for chosen tokens of packed rows: the forward pass of every training.

    It is one module around peft's model, and a pass is one call of it, because that call is where DDP and FSDP hook
    in: what they wrap is this module, and what they make of it is called in its place. DDP needs nothing else, as the
    gradients are summed once a step. FSDP would need the same number of passes in every process, and a backward pass
    that scatters the gradients, which the loop does not do.
    """

    def __init__(self, model: Any, kernels: Kernels = "fused") -> None:
        """Put `model` in evaluation mode and, with fused kernels, change how it computes; its weights stay as they are.

        With plain kernels nothing of the model is replaced. Raises ModelError when the model's logits are more than
        its output layer applied to its last hidden states.
        """
        super().__init__()
        self.model = model
        causal = causal_model(model)
        if kernels == "fused":
            use_fused_lora(model)
            causal.set_attn_implementation(DENSE_ATTENTION if causal.device.type == "cpu" else "sdpa")
        model.eval()
        _require_plain_logits(causal)

    def forward(self, rows: Sequence[PackedRow], wanted: Sequence[IntArray]) -> Tensor:
        """[K] fp32: log π(token | its ancestors) for the tokens at `wanted[i]` of `rows[i]`, row after row.

        The rows are padded on the right to one batch. Indices must be distinct within a row and none may be the first
        token of one.
        """
        causal = causal_model(self.model)
        inputs = _inputs(rows, causal)
        width = inputs["input_ids"].shape[1]
        # A token is predicted at its parent's place. Places are counted through the flattened batch.
        predictors = np.concatenate(
            [i * width + row.parents[w] for i, (row, w) in enumerate(zip(rows, wanted, strict=True))]
        )
        targets = np.concatenate([row.tokens[w] for row, w in zip(rows, wanted, strict=True)])
        # Siblings have one parent. It is projected to the vocabulary once; `back` leads from each token to its place.
        # As no index is gathered twice, gradients are added up in the same order in every run.
        distinct, back = np.unique(predictors, return_inverse=True)
        hidden = causal.base_model(**inputs).last_hidden_state.flatten(0, 1)
        logits = causal.get_output_embeddings()(hidden[_tensor(distinct, causal)])
        log_probs: Tensor = torch.log_softmax(logits.float(), dim=-1)
        return log_probs[_tensor(back, causal), _tensor(targets, causal)]


def causal_model(model: Any) -> PreTrainedModel:
    """transformers' model inside peft's, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _require_plain_logits(causal: PreTrainedModel) -> None:
    row = PackedRow(np.arange(_PROBE), np.arange(-1, _PROBE - 1), np.arange(_PROBE), ())
    with torch.no_grad():
        inputs = _inputs([row], causal)
        expected = causal(**inputs).logits
        hidden = causal.base_model(**inputs).last_hidden_state
        if not torch.equal(causal.get_output_embeddings()(hidden), expected):
            raise ModelError(f"{type(causal).__name__} changes its logits after the output layer: not supported")


def _inputs(rows: Sequence[PackedRow], causal: PreTrainedModel) -> dict[str, Any]:
    """Token ids and position ids [B, T] and the attention mask of a batch padded on the right.

    Rows without branches need causal attention only: padding stands after every real token.
    """
    width = max(len(row) for row in rows)
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row.tokens
        positions[i, : len(row)] = row.positions
    return {
        "input_ids": _tensor(tokens, causal),
        "position_ids": _tensor(positions, causal),
        "attention_mask": _attention_mask(rows, width, causal),
        "use_cache": False,
    }


def _attention_mask(rows: Sequence[PackedRow], width: int, causal: PreTrainedModel) -> Tensor | None:
    """Additive [1 or B, 1, T, T] in the model's dtype; None where the attention is causal by itself."""
    if all(np.array_equal(row.parents, np.arange(-1, len(row) - 1)) for row in rows):
        if causal.config._attn_implementation != DENSE_ATTENTION:
            return None
        allowed = np.tri(width, dtype=np.bool_)[None]
    else:
        # Padding sees itself, so that no row of the softmax is empty.
        allowed = np.broadcast_to(np.eye(width, dtype=np.bool_), (len(rows), width, width)).copy()
        for i, row in enumerate(rows):
            allowed[i, : len(row), : len(row)] = ancestor_mask(row.parents)
    blocked = _tensor(~allowed[:, None], causal)
    zeros = torch.zeros(blocked.shape, dtype=causal.dtype, device=causal.device)
    return zeros.masked_fill_(blocked, torch.finfo(causal.dtype).min)


def _tensor(array: np.ndarray[Any, Any], causal: PreTrainedModel) -> Tensor:
    return torch.from_numpy(array).to(causal.device)

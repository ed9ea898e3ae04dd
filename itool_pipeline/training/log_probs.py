"""Log-probabilities of chosen tokens of packed rows, with gradients, computing logits only where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from itool_pipeline.core.token_trie import IntArray, PackedRow, ancestor_mask, join_rows
from itool_pipeline.engines.attention_masks import TokenView, seeing, use_attention
from itool_pipeline.engines.logits import decoder_of, logits_of
from itool_pipeline.training.block_attention import BLOCK_ATTENTION
from itool_pipeline.training.fused import NATIVE_ATTENTION, use_fused_lora
from itool_pipeline.training.recomputation import use_gradient_checkpointing

Kernels = Literal["fused", "plain"]
"""`fused`: the LoRA layers of `fused` and, on a CPU, `block_attention`; `plain`: peft's and PyTorch's own."""

LogProbs = Callable[[Sequence[PackedRow], Sequence[IntArray]], Tensor]
"""A `TokenLogProbs`, or what a launcher has wrapped around it."""


class TokenLogProbs(nn.Module):  # type: ignore[misc]
    """log π(token | its ancestors) for chosen tokens of packed rows: the forward pass of every training.

    It is one module around peft's model, and a pass is one call of it, because that call is where DDP and FSDP hook
    in: what they wrap is this module, and what they make of it is called in its place. DDP needs nothing else, as the
    gradients are summed once a step. FSDP needs the same number of passes in every process.
    """

    def __init__(self, model: Any, kernels: Kernels = "fused", gradient_checkpointing: bool = False) -> None:
        """Put `model` in evaluation mode and, with fused kernels, change how it computes; its weights stay as they are.

        With plain kernels nothing of the model is replaced, but for gradient checkpointing the forward pass of its
        layers. Raises TrainingError where that is asked for and the model has no such layers.
        """
        super().__init__()
        self.model = model
        causal = causal_model(model)
        if kernels == "fused":
            use_fused_lora(model)
        blocks = kernels == "fused" and causal.device.type == "cpu"
        self.joins_rows: bool = blocks and causal._can_set_attn_implementation()
        """Whether the rows of a pass are one row, in which their common beginning stands once. Attention by blocks
        skips what they do not see of each other; any other would compute it."""
        use_attention(causal, BLOCK_ATTENTION if blocks else NATIVE_ATTENTION)
        if gradient_checkpointing:
            use_gradient_checkpointing(causal)
        model.eval()

    def train(self, mode: bool = True) -> TokenLogProbs:
        """Switch the adapter's dropout on or off; the base model's own is never drawn, whatever its config says."""
        self.training = mode
        self.model.eval()
        for layer in self.model.modules():
            if isinstance(layer, LoraLayer):
                layer.lora_dropout.train(mode)
        return self

    def forward(self, rows: Sequence[PackedRow], wanted: Sequence[IntArray]) -> Tensor:
        """[K] fp32: log π(token | its ancestors) for the tokens at `wanted[i]` of `rows[i]`, row after row.

        The rows are padded on the right to one batch, or joined to one row. Indices must be distinct within a row and
        none may be the first token of one.
        """
        causal = causal_model(self.model)
        if self.joins_rows and len(rows) > 1:
            joined, places = join_rows(rows, wanted)
            rows, wanted = [joined], [np.concatenate([p[w] for p, w in zip(places, wanted, strict=True)])]
        hidden = _hidden_states(rows, causal)
        width = hidden.shape[1]
        # A token is predicted at its parent's place. Places are counted through the flattened batch.
        predictors = np.concatenate(
            [i * width + row.parents[w] for i, (row, w) in enumerate(zip(rows, wanted, strict=True))]
        )
        targets = np.concatenate([row.tokens[w] for row, w in zip(rows, wanted, strict=True)])
        # Siblings have one parent. It is projected to the vocabulary once; `back` leads from each token to its place.
        # As no index is gathered twice, gradients are added up in the same order in every run.
        distinct, back = np.unique(predictors, return_inverse=True)
        logits = logits_of(causal, hidden.flatten(0, 1)[_tensor(distinct, causal)])
        log_probs: Tensor = torch.log_softmax(logits.float(), dim=-1)
        return log_probs[_tensor(back, causal), _tensor(targets, causal)]


def causal_model(model: Any) -> PreTrainedModel:
    """transformers' model inside peft's, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _hidden_states(rows: Sequence[PackedRow], causal: PreTrainedModel) -> Tensor:
    """[B, T, H]: last hidden states of the rows, padded on the right to one batch.

    Rows without branches need causal attention only: padding stands after every real token.
    """
    width = max(len(row) for row in rows)
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros_like(tokens)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row.tokens
        positions[i, : len(row)] = row.positions
    seen, places = _seen(rows, width), _tensor(positions, causal)
    allowed = None if seen is None else _tensor(seen[:, None], causal)
    with seeing(TokenView(allowed, places, places, int(positions.max()) + 1), causal) as attention_mask:
        result = decoder_of(causal)(
            input_ids=_tensor(tokens, causal), position_ids=places, attention_mask=attention_mask, use_cache=False
        )
    hidden: Tensor = result.last_hidden_state
    return hidden


def _seen(rows: Sequence[PackedRow], width: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """[B, T, T]: which tokens each token sees; None where no row has branches."""
    if all(np.array_equal(row.parents, np.arange(-1, len(row) - 1)) for row in rows):
        return None
    # Padding sees itself, so that no row of the softmax is empty.
    seen = np.broadcast_to(np.eye(width, dtype=np.bool_), (len(rows), width, width)).copy()
    for i, row in enumerate(rows):
        seen[i, : len(row), : len(row)] = ancestor_mask(row.parents)
    return seen


def _tensor(array: np.ndarray[Any, Any], causal: PreTrainedModel) -> Tensor:
    return torch.from_numpy(array).to(causal.device)

"""Attention of long rows on a CPU, by products of blocks of queries with only the keys that stand before their end.

PyTorch's own has a backward pass several times slower than its forward pass there, and computes, with a mask, the half
of all scores that no token may see. In a packed row, too, a token stands after all that it sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itool_pipeline.engines.attention_masks import register_attention
from itool_pipeline.engines.written_attention import needs_writing_out, written_attention

BLOCK_ATTENTION = "itool_block"
_BLOCK = 128
"""Queries in a block: fewer compute less of what nobody sees, more make better products."""
_KEPT_LENGTH = 1024
"""Longest row whose attention weights are kept for the backward pass; of longer ones they are computed again."""


def block_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(s q kᵀ + mask) v for transformers' attention interface, where no query sees a key that stands after it.

    query [B, heads, T, d]; key, value [B, kv_heads, T, d]; attention_mask additive, [1 or B, 1, T, T]. Returns
    [B, T, heads, d].
    """
    if needs_writing_out(softcap, s_aux):
        return written_attention(query, key, value, attention_mask, scaling, softcap, s_aux)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _BlockAttention.apply(query, key, value, attention_mask, scaling), None


@dataclass(frozen=True, slots=True)
class _Heads:
    """query [B·kv_heads, group, T, d], key [B·kv_heads, T, d]: the queries that share keys stand together."""

    query: Tensor
    key: Tensor
    mask: Tensor
    scaling: float

    def queries(self, start: int, end: int) -> Tensor:
        """[B·kv_heads, group·(end - start), d]"""
        return self.query[:, :, start:end].flatten(1, 2)

    def weights(self, start: int, end: int) -> Tensor:
        """[B·kv_heads, group·(end - start), end]: the softmax over the keys before `end`."""
        scores = torch.bmm(self.queries(start, end), self.key[:, :end].transpose(1, 2))
        by_batch = scores.view(len(self.mask), -1, end - start, end)  # one mask for all, or one for each batch
        torch.add(self.mask[:, :, start:end, :end], by_batch, alpha=self.scaling, out=by_batch)
        return torch.softmax(scores, dim=-1)


class _BlockAttention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
        batch, heads, length, width = query.shape
        shared = key.shape[1]
        q = query.reshape(batch * shared, heads // shared, length, width)
        k, v = key.flatten(0, 1), value.flatten(0, 1)
        parts, kept = _Heads(q, k, mask, scaling), []
        out = v.new_empty(batch, length, heads, v.shape[-1])
        for start, end in _blocks(length):
            weights = parts.weights(start, end)
            own = torch.bmm(weights, v[:, :end]).view(batch, heads, end - start, -1)
            out[:, start:end] = own.transpose(1, 2)
            if length <= _KEPT_LENGTH:
                kept.append(weights)
        ctx.save_for_backward(q, k, v, mask, *kept)
        ctx.scaling, ctx.shapes = scaling, (query.shape, key.shape, value.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *kept = ctx.saved_tensors
        parts = _Heads(q, k, mask, ctx.scaling)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for number, (start, end) in enumerate(_blocks(q.shape[2])):
            weights = kept[number] if kept else parts.weights(start, end)
            own = grad[:, start:end].transpose(1, 2).reshape(len(v), -1, v.shape[-1])
            grad_v[:, :end].baddbmm_(weights.transpose(1, 2), own)
            of_weights = torch.bmm(own, v[:, :end].transpose(1, 2))
            scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            grad_q[:, :, start:end] = torch.bmm(scores, k[:, :end]).mul_(ctx.scaling).view_as(q[:, :, start:end])
            grad_k[:, :end].baddbmm_(scores.transpose(1, 2), parts.queries(start, end), alpha=ctx.scaling)
        gradients = (g.view(shape) for g, shape in zip((grad_q, grad_k, grad_v), ctx.shapes, strict=True))
        return *gradients, None, None


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK)]


register_attention(BLOCK_ATTENTION, block_attention, always=True)

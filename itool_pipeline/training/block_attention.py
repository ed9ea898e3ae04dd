"""Attention of long rows on a CPU, by products of blocks of queries with only the keys that any of them sees.

PyTorch's own has a backward pass several times slower than its forward pass there, and computes, with a mask, the half
of all scores and more that no token may see. In a packed row, too, a token stands after all that it sees, and of what
stands before it a branch sees the prompt and itself.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from itool_pipeline.engines.attention_masks import register_attention
from itool_pipeline.engines.written_attention import needs_writing_out, written_attention

BLOCK_ATTENTION = "itool_block"
_BLOCK = 128
"""Queries in a block: fewer compute less of what nobody sees, more make better products."""
_KEPT_SCORES = 2**19
"""So many attention weights a head are kept for the backward pass: those of a causal row of 1,024 tokens. Of rows that
have more they are computed again."""
_FEWEST_KEYS = 0.8
"""Keys are picked out where no more than this share of those before the block's end is seen: that copies them."""


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
    if attention_mask not in _BLOCKS_OF:
        _BLOCKS_OF[attention_mask] = blocks_of(attention_mask)
    return _BlockAttention.apply(query, key, value, attention_mask, scaling, _BLOCKS_OF[attention_mask]), None


@dataclass(frozen=True, slots=True)
class Block:
    """Queries from `start` to `end`, and the K keys that they see: `picked`, or where that is None all before `end`."""

    start: int
    end: int
    picked: Tensor | None = None

    @property
    def size(self) -> int:
        """How many queries."""
        return self.end - self.start

    @property
    def scores(self) -> int:
        """Attention weights of a head."""
        return self.size * (self.end if self.picked is None else len(self.picked))

    def of(self, keys: Tensor) -> Tensor:
        """[N, K, d] of [N, T, d]."""
        return keys[:, : self.end] if self.picked is None else keys.index_select(1, self.picked)

    def add_product(self, total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
        """Add scale · left right, [N, K, d], to where its keys stand in `total` [N, T, d]."""
        if self.picked is None:
            total[:, : self.end].baddbmm_(left, right, alpha=scale)
        else:
            total.index_add_(1, self.picked, torch.bmm(left, right), alpha=scale)


def blocks_of(mask: Tensor) -> list[Block]:
    """The blocks of a mask [1 or B, 1, T, T], with the keys that are seen.

    A block ends where a branch begins, unless it would be short: two branches in one compute each other's keys too.
    """
    length = mask.shape[-1]
    seen = (mask > torch.finfo(mask.dtype).min / 2).flatten(0, 1).any(0)
    after_its_parent = seen.diagonal(-1).tolist()
    blocks: list[Block] = []
    start = 0
    for end in range(1, length + 1):
        size = end - start
        branch_begins = end < length and not after_its_parent[end - 1]
        if size == _BLOCK or end == length or (branch_begins and 2 * size >= _BLOCK):
            picked = seen[start:end, :end].any(0).nonzero()[:, 0]
            blocks.append(Block(start, end, picked if len(picked) <= _FEWEST_KEYS * end else None))
            start = end
    return blocks


_BLOCKS_OF: MutableMapping[Tensor, list[Block]] = WeakTensorKeyDictionary()
"""By the mask, which all layers of a kind are handed in a pass, for as long as it lives."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """query [B·kv_heads, group, T, d], key [B·kv_heads, T, d]: the queries that share keys stand together."""

    query: Tensor
    key: Tensor
    mask: Tensor
    scaling: float

    def queries(self, block: Block) -> Tensor:
        """[B·kv_heads, group·size, d]"""
        return self.query[:, :, block.start : block.end].flatten(1, 2)

    def weights(self, block: Block) -> Tensor:
        """[B·kv_heads, group·size, K]: the softmax over the keys of the block."""
        scores = torch.bmm(self.queries(block), block.of(self.key).transpose(1, 2))
        hidden = self.mask[:, :, block.start : block.end, : block.end]
        if block.picked is not None:
            hidden = hidden.index_select(3, block.picked)
        by_batch = scores.view(len(self.mask), -1, block.size, scores.shape[-1])  # one mask for all, or one for each
        torch.add(hidden, by_batch, alpha=self.scaling, out=by_batch)
        return torch.softmax(scores, dim=-1)


class _BlockAttention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, blocks: list[Block]
    ) -> Tensor:
        batch, heads, length, width = query.shape
        shared = key.shape[1]
        q = query.reshape(batch * shared, heads // shared, length, width)
        k, v = key.flatten(0, 1), value.flatten(0, 1)
        parts, kept = _Heads(q, k, mask, scaling), []
        out = v.new_empty(batch, length, heads, v.shape[-1])
        keep = sum(block.scores for block in blocks) <= _KEPT_SCORES
        for block in blocks:
            weights = parts.weights(block)
            own = torch.bmm(weights, block.of(v)).view(batch, heads, block.size, -1)
            out[:, block.start : block.end] = own.transpose(1, 2)
            if keep:
                kept.append(weights)
        ctx.save_for_backward(q, k, v, mask, *kept)
        ctx.scaling, ctx.blocks, ctx.shapes = scaling, blocks, (query.shape, key.shape, value.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *kept = ctx.saved_tensors
        parts = _Heads(q, k, mask, ctx.scaling)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for number, block in enumerate(ctx.blocks):
            queries = slice(block.start, block.end)
            weights = kept[number] if kept else parts.weights(block)
            own = grad[:, queries].transpose(1, 2).reshape(len(v), -1, v.shape[-1])
            block.add_product(grad_v, weights.transpose(1, 2), own)
            of_weights = torch.bmm(own, block.of(v).transpose(1, 2))
            scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            grad_q[:, :, queries] = torch.bmm(scores, block.of(k)).mul_(ctx.scaling).view_as(q[:, :, queries])
            block.add_product(grad_k, scores.transpose(1, 2), parts.queries(block), ctx.scaling)
        gradients = (g.view(shape) for g, shape in zip((grad_q, grad_k, grad_v), ctx.shapes, strict=True))
        return *gradients, None, None, None


register_attention(BLOCK_ATTENTION, block_attention, always=True)

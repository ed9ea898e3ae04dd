"""Attention of several branches over one cached prompt.

A batch row is one tree: the keys and values of its prompt are in the cache once, and the row's query tokens are the
branches' tokens, each of which sees the prompt, its ancestors and itself. Nothing is copied for each branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.cache_utils import Cache

NAME = "itool_tree"


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention for transformers' attention interface.

    query [B, heads, Q, d]; key, value [B, kv_heads, L, d]; attention_mask [B, 1, Q, L] bool, or None for causal.
    Returns [B, Q, heads, d]. With a mask the heads of a group are laid along Q, so keys and values are not repeated.
    """
    batch, heads, length, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    if attention_mask is None:
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=groups > 1)
        return out.transpose(1, 2).contiguous(), None
    packed = query.reshape(batch, kv_heads, groups * length, width)
    mask = attention_mask.expand(batch, 1, length, -1).repeat(1, 1, groups, 1)
    out = F.scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)


class TreeCache(Cache):  # type: ignore[misc]
    """Keys and values of a batch of rows in buffers of fixed size; every forward pass appends its columns.

    prefixes  for each row [layers, 2, kv_heads, L_row, d]: the prompt's keys and values
    columns   how many query columns will be appended at most
    """

    def __init__(self, prefixes: Sequence[torch.Tensor], columns: int) -> None:
        super().__init__(layers=[])
        layers, _, kv_heads, _, width = prefixes[0].shape
        self.prefix_lengths = torch.tensor([p.shape[3] for p in prefixes], device=prefixes[0].device)
        self.start = max(p.shape[3] for p in prefixes)
        shape = (layers, 2, len(prefixes), kv_heads, self.start + columns, width)
        self.buffer = torch.zeros(shape, dtype=prefixes[0].dtype, device=prefixes[0].device)
        for row, prefix in enumerate(prefixes):
            self.buffer[:, :, row, :, : prefix.shape[3]] = prefix
        self.filled = self.start

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any) -> Any:
        end = self.filled + key.shape[2]
        self.buffer[layer, 0, :, :, self.filled : end] = key
        self.buffer[layer, 1, :, :, self.filled : end] = value
        return self.buffer[layer, 0, :, :, :end], self.buffer[layer, 1, :, :, :end]

    def advance(self, columns: int) -> None:
        """Called once after each forward pass of `columns` query tokens."""
        self.filled += columns

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        self.buffer = self.buffer[:, :, rows]
        self.prefix_lengths = self.prefix_lengths[rows]

    def prefix_mask(self) -> torch.Tensor:
        """[B, 1, start] bool: which prefix columns hold a token of the row's own prompt."""
        columns = torch.arange(self.start, device=self.buffer.device)
        return (columns[None] < self.prefix_lengths[:, None])[:, None]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self.filled)


class PrefillCache(Cache):  # type: ignore[misc]
    """Collects keys and values of one causal pass: `layers[i]` is [2, B, kv_heads, L, d]."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.collected: list[torch.Tensor] = []

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any) -> Any:
        self.collected.append(torch.stack([key, value]))
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

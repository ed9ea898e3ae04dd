"""Attention of several branches over one cached prompt.

A batch row is one tree: the keys and values of its prompt are in the cache once, and the row's query tokens are the
branches' tokens, each of which sees the prompt, its ancestors and itself. Nothing is copied for each branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers.cache_utils import Cache

from itool_pipeline.engines.attention_masks import TokenView, register_attention
from itool_pipeline.engines.written_attention import needs_writing_out, written_attention

NAME = "itool_tree"


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention for transformers' attention interface.

    query [B, heads, Q, d]; key, value [B, kv_heads, L, d]; attention_mask [B, 1, Q, L] bool, or None for causal.
    Returns [B, Q, heads, d]. Over a cached prompt the heads of a group are laid along Q, so keys and values are not
    repeated.
    """
    if needs_writing_out(softcap, s_aux):
        return written_attention(query, key, value, attention_mask, scaling, softcap, s_aux)
    batch, heads, length, width = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    if attention_mask is None:
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=groups > 1)
        return out.transpose(1, 2).contiguous(), None
    if length == key.shape[2]:  # a prompt with a window: repeated for all heads, so large a mask would not pay
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        return out.transpose(1, 2).contiguous(), None
    packed = query.reshape(batch, kv_heads, groups * length, width)
    mask = attention_mask.expand(batch, 1, length, -1).repeat(1, 1, groups, 1)
    out = F.scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, length, -1).transpose(1, 2).contiguous(), None


register_attention(NAME, tree_attention, additive=False, always=False)


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
        # A prompt's columns are its positions; those of the query tokens come with them.
        columns_before = torch.arange(self.start, device=self.buffer.device)
        self.positions = columns_before.expand(len(prefixes), -1)

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any) -> Any:
        end = self.filled + key.shape[2]
        found = []
        for kind, new in enumerate((key, value)):
            self.buffer[layer, kind, :, :, self.filled : end, : new.shape[-1]] = new
            found.append(self.buffer[layer, kind, :, :, :end, : new.shape[-1]])
        return tuple(found)

    def view(self, seen: torch.Tensor, positions: torch.Tensor, length: int) -> TokenView:
        """What the next query tokens see: the prompt of their row, and of the query tokens so far those in `seen`.

        seen [B, Q, query tokens so far], these included; positions [B, Q], the largest is `length` - 1.
        """
        prefix = self.prefix_mask().expand(-1, seen.shape[1], -1)
        self.positions = torch.cat([self.positions, positions], dim=-1)
        return TokenView(torch.cat([prefix, seen], dim=-1)[:, None], positions, self.positions, length)

    def advance(self, columns: int) -> None:
        """Called once after each forward pass of `columns` query tokens."""
        self.filled += columns

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        self.buffer = self.buffer[:, :, rows]
        self.prefix_lengths = self.prefix_lengths[rows]
        self.positions = self.positions[rows]

    def prefix_mask(self) -> torch.Tensor:
        """[B, 1, start] bool: which prefix columns hold a token of the row's own prompt."""
        columns = torch.arange(self.start, device=self.buffer.device)
        return (columns[None] < self.prefix_lengths[:, None])[:, None]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return int(self.filled)


class PrefillCache(Cache):  # type: ignore[misc]
    """Collects keys and values of one causal pass: `collected[i]` is [2, B, kv_heads, L, d].

    Where one of the two is narrower, as in DeepSeek's, zeros fill it up.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.collected: list[torch.Tensor] = []

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any) -> Any:
        width = max(key.shape[-1], value.shape[-1])
        self.collected.append(torch.stack([_padded(part, width) for part in (key, value)]))
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def _padded(part: torch.Tensor, width: int) -> torch.Tensor:
    return part if part.shape[-1] == width else F.pad(part, (0, width - part.shape[-1]))

"""Attention written out, for what PyTorch's own knows nothing of: soft caps and sinks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def needs_writing_out(softcap: float | None, s_aux: Tensor | None) -> bool:
    """Whether a model's attention is more than a masked softmax of scaled products."""
    return softcap is not None or s_aux is not None


def written_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> tuple[Tensor, None]:
    """softmax(cap(s q kᵀ) + mask, sink) v for transformers' attention interface: [B, Q, heads, d].

    query [B, heads, Q, d]; key, value [B, kv_heads, L, d]; mask [1 or B, 1, Q, L], bool or additive, None for causal.
    softcap  scores are c tanh(x / c), as in Gemma 2
    s_aux    [heads] a score in each softmax that stands for nothing (an attention sink), as in gpt-oss
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    scores = scores.float()
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], dim=-1)
    weights = scores.softmax(-1)[..., : key.shape[2]]
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
) -> tuple[Tensor, None]:
    """The same, by PyTorch's own attention where that knows all there is; `mask` is not None."""
    if needs_writing_out(softcap, s_aux):
        return written_attention(query, key, value, mask, scaling, softcap, s_aux)
    grouped = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous(), None

"""Attention by blocks against PyTorch's own, value and gradient, and what is kept for the gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from itool_pipeline.core.token_trie import ancestor_mask
from itool_pipeline.training import block_attention as blocks
from itool_pipeline.training.block_attention import block_attention


def random_trees(batch: int, length: int) -> torch.Tensor:
    """[batch, 1, length, length] bool: each token sees its ancestors in a random tree, and itself."""
    rng = np.random.default_rng(batch)
    parents = [np.array([-1, *(rng.integers(max(0, i - 3), i) for i in range(1, length))]) for _ in range(batch)]
    return torch.from_numpy(np.stack([ancestor_mask(p) for p in parents]))[:, None]


def additive(allowed: torch.Tensor) -> torch.Tensor:
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("length", [1, 3, 4, 13], ids=["one", "short", "one block", "blocks and a rest"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "computed again"])
@pytest.mark.parametrize("masks", [1, 2])
@pytest.mark.parametrize("shared", [1, 3, 6])
def test_blocks_equal_pytorchs(
    monkeypatch: pytest.MonkeyPatch, length: int, kept: bool, masks: int, shared: int
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 4)
    monkeypatch.setattr(blocks, "_KEPT_LENGTH", length if kept else 0)
    torch.manual_seed(0)
    query = torch.randn(2, 6, length, 5, requires_grad=True)
    key, value = (torch.randn(2, shared, length, width, requires_grad=True) for width in (5, 7))
    allowed = random_trees(masks, length)
    want = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, scale=0.3, enable_gqa=True)
    got, _ = block_attention(nn.Module(), query, key, value, additive(allowed), scaling=0.3)
    torch.testing.assert_close(got, want.transpose(1, 2))
    weight = torch.randn_like(got)
    for a, b in zip(
        torch.autograd.grad((got * weight).sum(), (query, key, value)),
        torch.autograd.grad((want.transpose(1, 2) * weight).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def kept_numbers(length: int) -> int:
    query, key, value = (torch.randn(1, heads, length, 4, requires_grad=True) for heads in (2, 1, 1))
    mask = additive(torch.ones(1, 1, length, length, dtype=torch.bool).tril())
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        block_attention(nn.Module(), query, key, value, mask)
    return sum(sizes) - mask.numel()


def test_weights_of_short_rows_are_kept_half_of_them_and_none_of_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 8)
    inputs = 64 * 4 * (2 + 1 + 1)
    # Eight blocks of eight queries, the n-th with 8 n keys, for two heads.
    assert kept_numbers(64) == inputs + 2 * 8 * 8 * sum(range(1, 9))
    monkeypatch.setattr(blocks, "_KEPT_LENGTH", 63)
    assert kept_numbers(64) == inputs

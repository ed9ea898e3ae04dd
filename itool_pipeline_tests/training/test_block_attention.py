"""Attention by blocks against PyTorch's own, value and gradient, and what is kept for the gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from itool_pipeline.core.token_trie import ancestor_mask
from itool_pipeline.training import block_attention as blocks
from itool_pipeline.training.block_attention import block_attention, blocks_of


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
    monkeypatch.setattr(blocks, "_KEPT_SCORES", length**2 if kept else 0)
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
    scores = 8 * 8 * sum(range(1, 9))
    monkeypatch.setattr(blocks, "_KEPT_SCORES", scores)
    assert kept_numbers(64) == inputs + 2 * scores
    monkeypatch.setattr(blocks, "_KEPT_SCORES", scores - 1)
    assert kept_numbers(64) == inputs


def test_the_blocks_of_a_tree_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of four tokens and three branches of three, three and seven."""
    monkeypatch.setattr(blocks, "_BLOCK", 6)
    parents = np.array([-1, 0, 1, 2, 3, 4, 5, 3, 7, 8, 3, 10, 11, 12, 13, 14, 15])
    found = blocks_of(additive(torch.from_numpy(ancestor_mask(parents))[None, None]))
    # a block ends where a branch begins, or after six queries
    assert [(block.start, block.end) for block in found] == [(0, 6), (6, 10), (10, 16), (16, 17)]
    picked = [None if block.picked is None else block.picked.tolist() for block in found]
    assert picked == [None, None, [0, 1, 2, 3, *range(10, 16)], [0, 1, 2, 3, *range(10, 17)]]
    assert [block.scores for block in found] == [6 * 6, 4 * 10, 6 * 10, 11]


def test_a_causal_row_has_whole_blocks_with_all_keys_before_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 6)
    found = blocks_of(additive(torch.ones(1, 1, 15, 15, dtype=torch.bool).tril()))
    assert [(block.start, block.end, block.picked) for block in found] == [(0, 6, None), (6, 12, None), (12, 15, None)]

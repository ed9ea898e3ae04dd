"""Attention over a cached prompt against the formula, and what the caches keep."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from itool_pipeline.engines.tree_attention import PrefillCache, TreeCache, tree_attention


def formula(query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
    """softmax(q k' · scale) v, head by head and query by query, in fp64."""
    batch, heads, length, width = query.shape
    group = heads // key.shape[1]
    out = torch.zeros(batch, length, heads, width, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for i in range(length):
                seen = [j for j in range(key.shape[2]) if mask[b, i, j]]
                scores = torch.stack([query[b, h, i].double() @ key[b, h // group, j].double() for j in seen]) * scale
                weights = scores.softmax(0)
                out[b, i, h] = sum(w * value[b, h // group, j].double() for w, j in zip(weights, seen, strict=True))
    return out


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_masked_attention_is_the_formula(heads: int, kv_heads: int, scale: float | None) -> None:
    batch, length, columns, width = 2, 3, 7, 8
    generator = torch.Generator().manual_seed(heads * 10 + kv_heads)
    query = torch.randn(batch, heads, length, width, generator=generator)
    key, value = torch.randn(2, batch, kv_heads, columns, width, generator=generator)
    mask = torch.rand(batch, length, columns, generator=generator) < 0.5
    mask[..., 0] = True
    out, weights = tree_attention(SimpleNamespace(), query, key, value, mask[:, None], scaling=scale, dropout=0.0)
    assert weights is None
    assert out.shape == (batch, length, heads, width)
    expected = formula(query, key, value, mask, scale or 1 / math.sqrt(width))
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
def test_without_a_mask_it_is_causal(heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(1, heads, 5, 8, generator=generator)
    key, value = torch.randn(2, 1, kv_heads, 5, 8, generator=generator)
    out, _ = tree_attention(SimpleNamespace(), query, key, value, None)
    causal = torch.ones(1, 5, 5).tril().bool()
    torch.testing.assert_close(out.double(), formula(query, key, value, causal, 8**-0.5), rtol=0, atol=1e-5)


def prefix(length: int, fill: float) -> torch.Tensor:
    """[layers 2, 2, kv_heads 1, length, d 1]"""
    return torch.full((2, 2, 1, length, 1), fill)


def test_the_tree_cache_appends_columns_behind_the_longest_prefix() -> None:
    cache = TreeCache([prefix(3, 1.0), prefix(1, 2.0)], columns=3)
    assert cache.get_seq_length() == 3
    assert cache.prefix_mask().tolist() == [[[True, True, True]], [[True, False, False]]]
    for layer in (0, 1):
        key, value = cache.update(torch.full((2, 1, 2, 1), 5.0), torch.full((2, 1, 2, 1), 6.0), layer)
        assert key[..., 0].tolist() == [[[1, 1, 1, 5, 5]], [[2, 0, 0, 5, 5]]]
        assert value[..., 0].tolist() == [[[1, 1, 1, 6, 6]], [[2, 0, 0, 6, 6]]]
    cache.advance(2)
    assert cache.get_seq_length() == 5
    key, _ = cache.update(torch.full((2, 1, 1, 1), 7.0), torch.full((2, 1, 1, 1), 8.0), 1)
    assert key[0, 0, :, 0].tolist() == [1, 1, 1, 5, 5, 7]


def test_rows_of_the_tree_cache_can_be_dropped() -> None:
    cache = TreeCache([prefix(2, 1.0), prefix(1, 2.0), prefix(2, 3.0)], columns=2)
    cache.update(torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1, 1), torch.zeros(3, 1, 1, 1), 0)
    cache.advance(1)
    cache.keep_rows(torch.tensor([1, 2]))
    assert cache.prefix_mask().tolist() == [[[True, False]], [[True, True]]]
    key, _ = cache.update(torch.tensor([21.0, 31.0]).view(2, 1, 1, 1), torch.zeros(2, 1, 1, 1), 0)
    assert key[:, 0, :, 0].tolist() == [[2, 0, 20, 21], [3, 3, 30, 31]]


def test_a_prompt_of_one_token_has_an_empty_prefix() -> None:
    cache = TreeCache([prefix(0, 1.0), prefix(0, 1.0)], columns=1)
    assert cache.prefix_mask().shape == (2, 1, 0)
    key, _ = cache.update(torch.full((2, 1, 1, 1), 4.0), torch.full((2, 1, 1, 1), 4.0), 0)
    assert key.flatten().tolist() == [4, 4]


def test_the_prefill_cache_collects_layer_by_layer() -> None:
    cache = PrefillCache()
    for layer in (0, 1):
        key, value = torch.full((1, 1, 2, 1), float(layer)), torch.full((1, 1, 2, 1), 10.0 + layer)
        given = cache.update(key, value, layer)
        assert given[0] is key
        assert given[1] is value
    assert [c.flatten().tolist() for c in cache.collected] == [[0, 0, 10, 10], [1, 1, 11, 11]]
    assert cache.get_seq_length() == 0

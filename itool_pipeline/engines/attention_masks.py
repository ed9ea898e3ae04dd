"""Masks of passes whose tokens are the nodes of trees, in each layer of the kind that the model itself asks for.

A model's own forward pass says for every kind of layer which earlier tokens are seen: all, a sliding window, a chunk.
transformers hands that rule to the mask function of the model's attention. Ours applies it to the tokens' positions,
for in a tree the distance of two tokens is not that of their columns, and leaves of it what the tree lets them see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

MaskRule = Callable[..., Tensor]
"""transformers' mask function of a kind of layer: which earlier tokens it sees."""


class PassMasks(Protocol):
    """A forward pass, as far as its masks go."""

    def mask_for(self, rule: MaskRule, reach: int | None, dtype: torch.dtype, *, always: bool) -> Tensor | None:
        """The mask that layers with this rule and reach are handed; None for none, unless there is `always` one."""
        ...

    def hiding_nothing(self) -> Tensor:
        """The `attention_mask` of the model's own forward pass: ones."""
        ...


@dataclass(frozen=True, slots=True)
class TokenView:
    """What the Q tokens of a pass see of L keys.

    seen       [1 or B, 1, Q, L] bool; None where each token sees itself and all before it, and L is Q
    positions  [B, Q] position ids of the tokens
    keys       [B, L] position ids of the keys; what stands where nobody sees it does not matter
    length     one more than the largest of them
    """

    seen: Tensor | None
    positions: Tensor
    keys: Tensor
    length: int

    def mask_for(self, rule: MaskRule, reach: int | None, dtype: torch.dtype, *, always: bool) -> Tensor | None:
        """0 where a key is seen, else the lowest number of the dtype."""
        allowed = allowed_keys(self, rule, reach, always)
        return None if allowed is None else additive_mask(allowed, dtype)

    def hiding_nothing(self) -> Tensor:
        return torch.ones_like(self.keys)


_PASS: ContextVar[PassMasks] = ContextVar("the pass under way")


def register_attention(name: str, attention: Callable[..., Any], *, always: bool) -> None:
    """Make `attention` the implementation `name` in transformers, with the masks of the pass under way.

    always  there is a mask; otherwise there is none where attention is plainly causal
    """

    def mask(
        *,
        mask_function: MaskRule,
        dtype: torch.dtype,
        local_size: int | None = None,
        use_vmap: bool = False,
        **_: Any,
    ) -> Tensor | None:
        if use_vmap:
            raise NotImplementedError("the model lays a mask of its own over the causal one")
        return _PASS.get().mask_for(mask_function, local_size, dtype, always=always)

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)


def pass_under_way() -> PassMasks:
    """The pass that a model computes now; for attention that reads more of it than its masks."""
    return _PASS.get()


def use_attention(model: Any, name: str) -> None:
    """Let `model` compute by the attention `name`; one older than transformers' interface keeps its own."""
    if model._can_set_attn_implementation():
        model.set_attn_implementation(name)


@contextmanager
def seeing(now: PassMasks, model: Any) -> Iterator[Tensor | None]:
    """Inside, passes of `model` have the masks of `now`. Yields their `attention_mask`.

    It hides nothing: without one, transformers would take positions that stand still, or go back, for several texts in
    one row. Models that are older than transformers' interface take the mask itself, and know no windows.
    """
    if not model._can_set_attn_implementation():
        yield now.mask_for(causal_mask_function, None, model.dtype, always=True)
        return
    before = _PASS.set(now)
    try:
        yield now.hiding_nothing()
    finally:
        _PASS.reset(before)


def additive_mask(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `allowed`, elsewhere the lowest number of the dtype."""
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill_(~allowed, torch.finfo(dtype).min)


def allowed_keys(view: TokenView, rule: MaskRule, reach: int | None, always: bool) -> Tensor | None:
    """[1 or B, 1, Q, L] bool: the keys that tokens of `view` see in layers with this rule and reach.

    None for plainly causal attention, unless there is `always` to be a mask.
    """
    # An ancestor stands before its descendants, so that the causal rule takes nothing away from a tree; nor does a
    # window that nothing is longer than.
    plain = rule is causal_mask_function or (reach is not None and view.length <= reach)
    if plain and (view.seen is not None or not always):
        return view.seen
    device = view.positions.device
    size = view.positions.shape[1]
    seen = (
        torch.ones(size, size, dtype=torch.bool, device=device).tril()[None, None] if view.seen is None else view.seen
    )
    if plain:
        return seen
    rows, heads = (torch.arange(n, device=device)[:, None, None, None] for n in (len(view.positions), 1))
    return seen & rule(rows, heads, view.positions[:, None, :, None], view.keys[:, None, None, :])

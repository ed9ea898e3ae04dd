"""One forward pass over tokens of many slots, laid side by side in a single row.

For all that a model computes token by token the row is a batch without padding. Attention alone knows whose each token
is: it writes the token's key and value to its slot, and reads the slot. Slots of one pool lie beside each other and are
read in one call, as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache

from itool_pipeline.engines.attention_masks import MaskRule, TokenView, pass_under_way, register_attention
from itool_pipeline.engines.prompt_slots import LayerShape, PromptSlot, SlotPool
from itool_pipeline.engines.written_attention import masked_attention, needs_writing_out, written_attention

NAME = "itool_slots"
_ROW_MULTIPLE = 4
"""Queries of a slot are filled up to a multiple: with fewer in a block, CPU products round in another way."""
_PROMPT_BLOCK = 128
"""A prompt's tokens read whole blocks of it: never more than one too many, and always the same."""
_ALONE = 16
"""A slot with more queries than this is read in a call of its own, so that others are not padded to it."""


@dataclass(frozen=True, slots=True)
class SlotTokens:
    """Tokens of one slot in a pass: `columns` of the slot, `tokens` there, and their place in the pass from `start`."""

    slot: PromptSlot
    columns: Sequence[int]
    tokens: Sequence[int]
    start: int

    @property
    def reach(self) -> int:
        """Columns of the slot that are read. It follows from the slot and the token alone, for sums round by it."""
        last = self.columns[-1]
        return self.slot.pool.columns if last >= self.slot.base else (last // _PROMPT_BLOCK + 1) * _PROMPT_BLOCK

    def pieces(self) -> list[SlotTokens]:
        """The same in pieces of one reach each."""
        if self.columns[0] >= self.slot.base:
            return [self]
        first = self.columns[0] // _PROMPT_BLOCK * _PROMPT_BLOCK
        bounds = [0, *range(first + _PROMPT_BLOCK - self.columns[0], len(self.columns), _PROMPT_BLOCK)]
        return [
            SlotTokens(self.slot, self.columns[a:b], self.tokens[a:b], self.start + a)
            for a, b in zip(bounds, [*bounds[1:], len(self.columns)], strict=True)
        ]

    def positions(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Position ids: a prompt's columns are its positions."""
        columns, base = np.asarray(self.columns), self.slot.base
        return np.where(columns < base, columns, self.slot.positions[np.maximum(columns - base, 0)])

    def seen(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[tokens, reach]: what each token sees."""
        if self.columns[0] >= self.slot.base:
            return self.slot.seen_by([column - self.slot.base for column in self.columns])
        return np.less_equal.outer(np.arange(self.reach), self.columns).T


class SlotGroup:
    """Rows of one pool that are read in one call: the view of each row's queries, filled up to the longest."""

    def __init__(self, pool: SlotPool, members: Sequence[SlotTokens], device: torch.device) -> None:
        self.pool, self._device = pool, device
        self.first = min(member.slot.row for member in members)
        self.last = max(member.slot.row for member in members) + 1
        self.columns = members[0].reach
        rows, columns = self.last - self.first, self.columns
        queries = -(-max(len(member.tokens) for member in members) // _ROW_MULTIPLE) * _ROW_MULTIPLE
        place, at = np.zeros((rows, queries), dtype=np.int64), []
        self._seen = np.zeros((rows, queries, columns), dtype=np.bool_)
        self._seen[:, :, 0] = True  # what fills up a row sees something, and nobody sees it
        self._positions = np.zeros((rows, queries), dtype=np.int64)
        self._keys = np.broadcast_to(np.arange(columns), (rows, columns)).copy()
        for member in members:
            row, count, slot = member.slot.row - self.first, len(member.tokens), member.slot
            place[row, :count] = np.arange(member.start, member.start + count)
            self._seen[row, :count] = member.seen()
            self._positions[row, :count] = member.positions()
            self._keys[row, slot.base :] = slot.positions[: max(columns - slot.base, 0)]
            at.append(row * queries + np.arange(count))
        self.place = self._tensor(place)
        self.flat = self._tensor(np.concatenate([np.arange(m.start, m.start + len(m.tokens)) for m in members]))
        self.row = self._tensor(np.concatenate([np.full(len(m.tokens), m.slot.row) for m in members]))
        self.column = self._tensor(np.concatenate([np.asarray(m.columns, dtype=np.int64) for m in members]))
        self.answer = self._tensor(np.concatenate(at))

    def view(self) -> TokenView:
        """What the queries see, for masks."""
        seen, positions, keys = map(self._tensor, (self._seen, self._positions, self._keys))
        return TokenView(seen[:, None], positions, keys, int(max(self._positions.max(), self._keys.max())) + 1)

    def _tensor(self, array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class SlotPass(Cache):  # type: ignore[misc]
    """What one pass reads and writes. It is handed to the model as its cache.

    tokens, positions  [1, N] of the pass, filled up to `least`; what fills it up belongs to no slot
    reads_slots        whether attention reads the slots itself; otherwise the cache hands them over
    """

    reads_slots = True

    def __init__(self, members: Sequence[SlotTokens], least: int, device: torch.device) -> None:
        super().__init__(layers=[])
        used = sum(len(member.tokens) for member in members)
        ids, positions = np.zeros((2, 1, max(used, least)), dtype=np.int64)
        for member in members:
            span = slice(member.start, member.start + len(member.tokens))
            ids[0, span], positions[0, span] = member.tokens, member.positions()
        self.tokens, self.positions = (torch.from_numpy(array).to(device) for array in (ids, positions))
        pieces = [piece for member in members for piece in member.pieces()]
        self.groups = [SlotGroup(pool, group, device) for pool, group in _grouped(pieces)]
        self._masks: list[list[Tensor]] = []
        self._repeated: dict[tuple[int, int], list[Tensor]] = {}
        self.layer = 0

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write keys and values [1, heads, N, width] to the slots."""
        self.layer = layer
        for group in self.groups:
            for buffers, new in ((group.pool.keys, key), (group.pool.values, value)):
                buffers[layer][group.row, :, group.column] = new[0].transpose(0, 1)[group.flat]
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def mask_for(self, rule: MaskRule, reach: int | None, dtype: torch.dtype, *, always: bool = True) -> Tensor:
        """What layers of this kind are handed as their mask: the number of its masks, which are made once a pass."""
        self._masks.append(self._group_masks(rule, reach, dtype))
        return torch.full((1, 1, 1, 1), len(self._masks) - 1)

    def masks(self, number: int, times: int = 1) -> list[Tensor]:
        """For each group what is added to its scores, `times` below each other: [rows, 1, times · queries, columns]."""
        if (number, times) not in self._repeated:
            self._repeated[number, times] = [mask.repeat(1, 1, times, 1) for mask in self._masks[number]]
        return self._repeated[number, times]

    def hiding_nothing(self) -> Tensor:
        return torch.ones_like(self.tokens)

    def _group_masks(self, rule: MaskRule, reach: int | None, dtype: torch.dtype) -> list[Tensor]:
        """For each group [rows, 1, queries, columns]."""
        masks = (group.view().mask_for(rule, reach, dtype, always=True) for group in self.groups)
        return [mask for mask in masks if mask is not None]


class WholeSlotPass(SlotPass):
    """The same for models that do something of their own with what was kept: they are handed all slots as one long row.

    That are those older than transformers' attention interface, and those that keep latents, as DeepSeek's.
    """

    reads_slots = False

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        super().update(key, value, layer)
        found = []
        for buffers in ([g.pool.keys[layer] for g in self.groups], [g.pool.values[layer] for g in self.groups]):
            rows = (b[g.first : g.last, :, : g.columns] for b, g in zip(buffers, self.groups, strict=True))
            found.append(torch.cat([row.transpose(0, 1).flatten(1, 2) for row in rows], dim=1)[None])
        return found[0], found[1]

    def mask_for(self, rule: MaskRule, reach: int | None, dtype: torch.dtype, *, always: bool = True) -> Tensor:
        """[1, 1, N, columns of all groups]: each token sees of its own slot what it sees there, and no other slot."""
        least = torch.finfo(dtype).min
        parts = []
        for group, mask in zip(self.groups, self._group_masks(rule, reach, dtype), strict=True):
            whole = mask.new_full((self.tokens.shape[1], len(mask), group.columns), least)
            own = mask[:, 0].flatten(0, 1)[group.answer]
            whole[group.flat, group.row - group.first] = own
            parts.append(whole.flatten(1))
        return torch.cat(parts, dim=1)[None, None]


def slot_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Grouped-query attention for transformers' attention interface, each token to its slot.

    query [1, heads, N, d]; `attention_mask` holds the number of the masks. Returns [1, N, heads, d of the values]. The
    heads that share keys are laid along the queries, so that keys and values are read as they are in the slots.
    """
    assert attention_mask is not None
    now = pass_under_way()
    assert isinstance(now, SlotPass)
    if isinstance(now, ShapeProbe):
        now.attends(key)
    if not now.reads_slots:
        return masked_attention(query, key, value, attention_mask, scaling, softcap, s_aux)
    written = needs_writing_out(softcap, s_aux)
    masks = now.masks(int(attention_mask), 1 if written else query.shape[1] // key.shape[1])
    flat = query[0].transpose(0, 1)  # [N, heads, d]
    out = flat.new_zeros(flat.shape[0], flat.shape[1], value.shape[-1])
    for group, mask in zip(now.groups, masks, strict=True):
        here = slice(group.first, group.last), slice(None), slice(group.columns)
        keys, values = group.pool.keys[now.layer][here], group.pool.values[now.layer][here]
        asked = flat[group.place]  # [rows, queries, heads, d]
        if written:
            found, _none = written_attention(asked.transpose(1, 2), keys, values, mask, scaling, softcap, s_aux)
        else:
            found = _grouped_attention(asked, keys, values, mask, scaling)
        out[group.flat] = found.flatten(0, 1)[group.answer]
    return out[None], None


def _grouped_attention(asked: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """[rows, queries, heads, d of the values] for queries [rows, queries, heads, d]."""
    rows, queries, heads, width = asked.shape
    kv_heads = keys.shape[1]
    groups = heads // kv_heads
    packed = asked.view(rows, queries, kv_heads, groups, width).permute(0, 2, 3, 1, 4)
    packed = packed.reshape(rows, kv_heads, groups * queries, width)
    found = F.scaled_dot_product_attention(packed, keys, values, attn_mask=mask, scale=scaling)
    found = found.view(rows, kv_heads, groups, queries, -1).permute(0, 3, 1, 2, 4)
    return found.reshape(rows, queries, heads, -1)


register_attention(NAME, slot_attention, always=True)


def _grouped(members: Sequence[SlotTokens]) -> list[tuple[SlotPool, list[SlotTokens]]]:
    """Members that are read together, of one pool and one reach; long ones alone."""
    together: dict[tuple[int, int], tuple[SlotPool, list[SlotTokens]]] = {}
    alone = []
    for member in members:
        if len(member.tokens) > _ALONE:
            alone.append((member.slot.pool, [member]))
        else:
            together.setdefault((id(member.slot.pool), member.reach), (member.slot.pool, []))[1].append(member)
    return [*together.values(), *alone]


class ShapeProbe(SlotPass):
    """A pass over one token that learns what each layer keeps of it.

    hands_over  whether the model does something of its own with what was kept: see `WholeSlotPass`
    """

    reads_slots = False

    def __init__(self, device: torch.device) -> None:
        super().__init__([], 1, device)
        self._found: dict[int, LayerShape] = {}
        self._last: Tensor | None = None
        self.hands_over = False

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self._found[layer] = LayerShape(key.shape[1], key.shape[-1], value.shape[-1])
        self._last = key
        return key, value

    def mask_for(self, rule: MaskRule, reach: int | None, dtype: torch.dtype, *, always: bool = True) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=dtype, device=self.tokens.device)

    def attends(self, key: Tensor) -> None:
        """Attention was handed these keys."""
        self.hands_over |= key is not self._last

    def shapes(self) -> list[LayerShape]:
        """By layer; one that keeps nothing has no heads."""
        return [self._found.get(i, LayerShape(0, 0, 0)) for i in range(max(self._found, default=-1) + 1)]

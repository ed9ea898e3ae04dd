"""Keys and values that stay: a slot holds those of one prompt, and of all paths that were taken from its end.

The columns of a slot are first the prompt's tokens but for the last, then a prefix tree: a column for each token of a
path, found again by the column before it and the token. So a path that goes on costs its new tokens, and paths that
begin alike share columns. Slots lie in pools, so that one attention call reads several of them as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

_SHORT = 512
"""Up to so many columns of paths a slot becomes longer before it forgets any: to copy it costs less than a token."""
_LEAST_SHARED = 16
"""Prompts that share fewer tokens at their beginning are computed apart."""


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """How slots lie in memory.

    block           they are so many columns long, or a multiple
    rows            slots of one pool, which are read in one call
    prefill_tokens  new prompt tokens of one pass at most; paths that go on wait for them
    """

    block: int
    rows: int
    prefill_tokens: int


CPU_LAYOUT = SlotLayout(block=128, rows=4, prefill_tokens=1024)
"""Products round by the length of what they sum, and that of a slot follows from its own prompt and paths alone."""
GPU_LAYOUT = SlotLayout(block=256, rows=32, prefill_tokens=8192)
"""A GPU waits for calls, not for sums over columns that nobody sees."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of a token: `heads` keys of `key_width` and values of `value_width` numbers."""

    heads: int
    key_width: int
    value_width: int

    @property
    def numbers(self) -> int:
        return self.heads * (self.key_width + self.value_width)


class SlotPool:
    """Buffers of some slots: for each layer keys [rows, heads, columns, width] and values likewise."""

    def __init__(
        self, shapes: Sequence[LayerShape], rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.rows, self.columns = rows, columns
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.keys = [torch.zeros(rows, s.heads, columns, s.key_width, **options) for s in shapes]
        self.values = [torch.zeros(rows, s.heads, columns, s.value_width, **options) for s in shapes]
        self.free = list(range(rows))[::-1]

    def copy(self, row: int, source: SlotPool, source_row: int, columns: int) -> None:
        """Take over the first columns of another slot."""
        for mine, theirs in ((self.keys, source.keys), (self.values, source.values)):
            for buffer, other in zip(mine, theirs, strict=True):
                buffer[row, :, :columns] = other[source_row, :, :columns]


@dataclass(eq=False)
class PromptSlot:
    """One prompt's columns in `pool`, at `row`.

    base     columns of the prompt: all its tokens but the last, whose output is wanted and so is computed on a path
    filled   how many of these are computed
    users    requests under way: each says by `pins` which columns it still needs
    """

    prompt: tuple[int, ...]
    pool: SlotPool
    row: int
    filled: int = 0
    started: bool = False
    users: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.base = len(self.prompt) - 1
        self.tokens = np.array(self.prompt[:-1], dtype=np.int64)
        self.forget_paths()

    def forget_paths(self) -> None:
        """Only the prompt is left. So no task's sums run in an order that another has left behind."""
        own = self.pool.columns - self.base
        self._seen = np.zeros((own, own), dtype=np.bool_)
        self.positions = np.zeros(own, dtype=np.int64)
        self._children: dict[tuple[int, int], int] = {}
        self._free = list(range(own))[::-1]

    @property
    def ready(self) -> bool:
        """Whether the whole prompt is computed."""
        return self.filled == self.base

    def longest_path(self, tokens: Sequence[int]) -> tuple[int, int]:
        """(column of the last token that is there, how many are) of a path from the prompt's end; -1 for none."""
        column = -1
        for count, token in enumerate(tokens):
            found = self._children.get((column, token))
            if found is None:
                return column, count
            column = found
        return column, len(tokens)

    def add(self, parent: int, token: int, *, keep: bool = True) -> int:
        """A column for `token` after the column `parent`, -1 for the prompt; the one that is there if it is kept."""
        if keep and (found := self._children.get((parent, token))) is not None:
            return found
        column = self._free.pop()
        if parent >= 0:
            self._seen[column] = self._seen[parent]
            self.positions[column] = self.positions[parent] + 1
        else:
            self._seen[column] = False
            self.positions[column] = self.base
        self._seen[column, column] = True
        if keep:
            self._children[parent, token] = column
        return column

    def drop(self, columns: Iterable[int]) -> None:
        """Columns that were not kept are free again."""
        self._free += columns

    def has_room(self, columns: int) -> bool:
        """Whether so many columns are free."""
        return len(self._free) >= columns

    def reserve(self, columns: int) -> bool:
        """Make so many columns free, by dropping paths that no user needs; False when there is no room even then."""
        pinned = [column for user in self.users for column in user.pins()]
        needed = np.logical_or.reduce(self._seen[pinned], axis=0) if pinned else np.zeros(len(self._seen), np.bool_)
        self._children = {key: column for key, column in self._children.items() if needed[column]}
        self._free = [column for column in range(len(needed)) if not needed[column]][::-1]
        return self.has_room(columns)

    def move(self, pool: SlotPool, row: int) -> tuple[SlotPool, int]:
        """Go on in a longer slot, with all columns where they were; returns where it was."""
        pool.copy(row, self.pool, self.row, self.pool.columns)
        own, before = pool.columns - self.base, len(self._seen)
        self._seen = np.pad(self._seen, (0, own - before))
        self.positions = np.pad(self.positions, (0, own - before))
        self._free = list(range(before, own))[::-1] + self._free
        before_it = self.pool, self.row
        self.pool, self.row = pool, row
        return before_it

    def seen_by(self, columns: Sequence[int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[columns, pool.columns]: what tokens at these own columns see."""
        found = np.zeros((len(columns), self.pool.columns), dtype=np.bool_)
        found[:, : self.base] = True
        found[:, self.base :] = self._seen[list(columns)]
        return found

    def shared_with(self, tokens: np.ndarray[Any, np.dtype[np.int64]]) -> int:
        """How many tokens the prompt begins alike with `tokens`."""
        length = min(len(tokens), self.base)
        different = np.flatnonzero(self.tokens[:length] != tokens[:length])
        return int(different[0]) if len(different) else length


class SlotStore:
    """The slots of one model, within `most_bytes`.

    A task has its own slot for each prompt that it asks about. When it has ended its slots stay as long as they can,
    for the next prompt may begin as they do, or be the same.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        layout: SlotLayout,
        dtype: torch.dtype,
        device: torch.device,
        most_bytes: int,
    ) -> None:
        self._layout = layout
        self._shapes, self._dtype, self._device, self.most_bytes = shapes, dtype, device, most_bytes
        self._column_bytes = sum(shape.numbers for shape in shapes) * dtype.itemsize
        self._pools: dict[int, list[SlotPool]] = {}
        # Of both the one used longest ago first.
        self._owned: OrderedDict[tuple[object, tuple[int, ...]], PromptSlot] = OrderedDict()
        self._idle: OrderedDict[tuple[int, ...], PromptSlot] = OrderedDict()

    def slot(self, owner: object, prompt: tuple[int, ...], own: int, *, must: bool) -> PromptSlot | None:
        """The task's slot for the prompt; a new one has room for `own` columns of paths.

        None when there is no room for another, unless it `must` be: then it is made beyond the bound.
        """
        found = self._owned.pop((owner, prompt), None) or self._idle.pop(prompt, None)
        if found is None:
            columns = self._whole_blocks(len(prompt) - 1 + own)
            if not self._fits(columns) and not must:
                return None
            found = PromptSlot(prompt, *self._place(columns))
        self._owned[owner, prompt] = found
        return found

    def make_room(self, slot: PromptSlot, own: int) -> None:
        """Room for `own` columns more: the slot moves to a longer one while it is short, and then forgets paths.

        Which of the two does not follow from the memory that is left, or a tree would depend on its neighbours.
        """
        if slot.has_room(own):
            return
        longer = self._whole_blocks(slot.pool.columns + own)
        if longer - slot.base <= _SHORT or not slot.reserve(own):
            self._free(*slot.move(*self._place(longer)))

    def largest_slot(self) -> int:
        """Bytes of the largest slot that a task has."""
        return max(map(self._bytes, self._owned.values()), default=0)

    def owned_bytes(self) -> int:
        """Bytes of all slots of tasks under way."""
        return sum(map(self._bytes, self._owned.values()))

    def begin(self, slots: Iterable[PromptSlot]) -> None:
        """Start the prompts of these slots, each with what another slot has of it already.

        One that shares more with a prompt that is under way waits for it instead.
        """
        everywhere = [*self._owned.values(), *self._idle.values()]
        ready = [slot for slot in everywhere if slot.ready and slot.base]
        under_way = [slot for slot in everywhere if slot.started and not slot.ready and slot.users]
        for slot in sorted(slots, key=lambda slot: slot.prompt):
            donor = max(ready, key=lambda other: other.shared_with(slot.tokens), default=None)
            shared = donor.shared_with(slot.tokens) if donor else 0
            if max((other.shared_with(slot.tokens) for other in under_way), default=0) >= shared + _LEAST_SHARED:
                continue
            if donor is not None and shared >= _LEAST_SHARED:
                slot.pool.copy(slot.row, donor.pool, donor.row, shared)
                slot.filled = shared
            slot.started = True
            under_way.append(slot)

    def release(self, owner: object) -> int:
        """The task has ended; returns how many bytes its slots had."""
        held = 0
        for key in [key for key in self._owned if key[0] is owner]:
            slot = self._owned.pop(key)
            held += self._bytes(slot)
            slot.users = []
            slot.forget_paths()
            if slot.prompt in self._idle or not slot.ready:
                self._free(slot.pool, slot.row)
            else:
                self._idle[slot.prompt] = slot
        return held

    def _bytes(self, slot: PromptSlot) -> int:
        return int(slot.pool.columns * self._column_bytes)

    def _fits(self, columns: int) -> bool:
        """Whether a slot of so many columns fits into the bound, without those of tasks that have ended."""
        while not any(pool.free for pool in self._pools.get(columns, ())):
            held = sum(pool.rows * pool.columns for group in self._pools.values() for pool in group)
            if (held + self._layout.rows * columns) * self._column_bytes <= self.most_bytes:
                return True
            if not self._idle:
                return False
            _prompt, slot = self._idle.popitem(last=False)
            self._free(slot.pool, slot.row)
        return True

    def _place(self, columns: int) -> tuple[SlotPool, int]:
        """A free row for so many columns, of a new pool if need be; beyond the bound where nothing idle is left."""
        self._fits(columns)
        pools = self._pools.setdefault(columns, [])
        pool = next((pool for pool in pools if pool.free), None)
        if pool is None:
            pool = SlotPool(self._shapes, self._layout.rows, columns, self._dtype, self._device)
            pools.append(pool)
        return pool, pool.free.pop()

    def _free(self, pool: SlotPool, row: int) -> None:
        pool.free.append(row)
        if len(pool.free) == pool.rows:
            self._pools[pool.columns].remove(pool)

    def _whole_blocks(self, columns: int) -> int:
        return -(-columns // self._layout.block) * self._layout.block

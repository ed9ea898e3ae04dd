"""One prompt and many continuations in one row, as a prefix tree: what they share is computed once.

A row is a list of tokens, each with the row index of the token before it. Attention that lets every token see its
ancestors and itself, and position ids equal to depth, give each continuation the same log-probabilities as a row of
its own. The search scores siblings with it and preference training (Eq. 10 and 11) its pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A packed row of N tokens. A token always stands after its parent.

    tokens     [N] token ids
    parents    [N] row index of the token before; -1 where there is none in the row
    positions  [N] position ids: `position_offset` for a token without parent, one more for each generation
    spans      for each continuation the row indices of its tokens, in reading order
    """

    tokens: IntArray
    parents: IntArray
    positions: IntArray
    spans: tuple[IntArray, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def predictors(self, continuation: int) -> IntArray:
        """Row indices whose logits predict the tokens of that continuation.

        -1 stands for the token before the row: the last one of a cached prompt.
        """
        return self.parents[self.spans[continuation]]


def pack_row(prompt: Sequence[int], continuations: Sequence[Sequence[int]], position_offset: int = 0) -> PackedRow:
    """`prompt` followed by each of `continuations`; continuations that begin alike share row indices.

    With an empty prompt whose keys and values are cached, give its length as `position_offset`: a parent of -1 then
    means that the token sees the cache and itself only.
    """
    tokens = [int(token) for token in prompt]
    parents = list(range(-1, len(tokens) - 1))
    positions = list(range(position_offset, position_offset + len(tokens)))
    children: dict[tuple[int, int], int] = {}
    spans = []
    for continuation in continuations:
        last = len(prompt) - 1
        span = []
        for token in map(int, continuation):
            # The same token after the same one is the same node: continuations part where they differ first.
            index = children.setdefault((last, token), len(tokens))
            if index == len(tokens):
                tokens.append(token)
                parents.append(last)
                positions.append(positions[last] + 1 if last >= 0 else position_offset)
            span.append(index)
            last = index
        spans.append(_array(span))
    return PackedRow(_array(tokens), _array(parents), _array(positions), tuple(spans))


def join_rows(rows: Sequence[PackedRow], own: Sequence[IntArray]) -> tuple[PackedRow, list[IntArray]]:
    """All rows as one, in which what they begin with alike stands once; and the places in it of each row's tokens.

    own  row indices of tokens that each row keeps for itself; only what stands before the first of them is shared

    The joined row has no spans.
    """
    tokens: list[int] = []
    parents: list[int] = []
    positions: list[int] = []
    shared: dict[tuple[int, int, int], int] = {}
    """(token, its parent's place, its position) → place"""
    places = []
    for row, kept in zip(rows, own, strict=True):
        first, place = int(kept.min(initial=len(row))), list[int]()
        columns = zip(row.tokens.tolist(), row.parents.tolist(), row.positions.tolist(), strict=True)
        for index, (token, parent, position) in enumerate(columns):
            key = token, place[parent] if parent >= 0 else -1, position
            if index < first and key in shared:
                place.append(shared[key])
                continue
            if index < first:
                shared[key] = len(tokens)
            place.append(len(tokens))
            tokens.append(token)
            parents.append(key[1])
            positions.append(position)
        places.append(_array(place))
    return PackedRow(_array(tokens), _array(parents), _array(positions), ()), places


def ancestor_mask(parents: IntArray) -> BoolArray:
    """[N, N]: whether token i may attend to token j, that is, whether j is i or an ancestor of i.

    Raises ValueError when a token stands before its parent.
    """
    size = len(parents)
    if np.any(parents >= np.arange(size)) or np.any(parents < -1):
        raise ValueError("every parent must stand before its child")
    mask = np.eye(size, dtype=np.bool_)
    for index in range(size):
        # A parent stands before its child, so its row is complete: a token sees what its parent sees, and itself.
        parent = parents[index]
        if parent >= 0:
            mask[index, : parent + 1] = mask[parent, : parent + 1]
    return mask


def _array(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)

"""What is trained on, in token ids: gold responses (Eq. 2) and the pairs of a search tree (Section 3.2).

Free of torch. The prompt of a pair is the tree's prompt plus the path to the node; chosen and rejected are the tokens
of two fragments after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, Literal, Protocol, TypeVar

from itool_pipeline.core.token_trie import PackedRow, pack_row


class Item(Protocol):
    """What the loop needs to know of an item."""

    @property
    def name(self) -> str:
        """The example's id, for messages."""
        ...

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids that nothing is learned of."""
        ...

    @property
    def length(self) -> int:
        """Tokens of its row in a forward pass."""
        ...


T = TypeVar("T", bound=Item)


@dataclass(frozen=True)
class TrainingData(Generic[T]):
    """`validation` may be empty: the last checkpoint is then the best."""

    train: Sequence[T]
    validation: Sequence[T] = ()


@dataclass(frozen=True, slots=True)
class SftItem:
    """One example in token ids; `response` ends with the token that ends a turn. Neither part may be empty."""

    name: str
    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.response:
            raise ValueError(f"{self.name}: an example needs a prompt and a response")

    @property
    def length(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A preference after the path from a tree's root to a node, in token ids. A fragment may not be empty.

    reference  log π_ref of chosen and of rejected, for the losses that compare with a reference policy
    """

    path: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    reference: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.chosen or not self.rejected:
            raise ValueError("chosen and rejected need at least one token each")

    @property
    def depth(self) -> int:
        """Tokens after the tree's prompt, of the longer branch."""
        return len(self.path) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class PreferenceRow:
    """Pairs of one tree. `name` is the example's id; `prompt`, in token ids, may not be empty.

    gold  token ids of the gold answer with its end, where its likelihood is trained too; alone, without a pair, it is
          one that is rehearsed

    Its packed row is computed once, when it is first asked for, and kept: 24 bytes a token.
    """

    name: str
    prompt: tuple[int, ...]
    pairs: tuple[TokenPair, ...]
    gold: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt or not (self.pairs or self.gold):
            raise ValueError(f"{self.name}: a row needs a prompt, and a pair or a gold answer")

    @cached_property
    def packed(self) -> PackedRow:
        """The row to compute; continuations 2i and 2i + 1 are path and branch of pair i's chosen and rejected, and the
        last is the gold answer, where there is one.
        """
        branches = [p.path + branch for p in self.pairs for branch in (p.chosen, p.rejected)]
        return pack_row(self.prompt, [*branches, self.gold] if self.gold else branches)

    @property
    def length(self) -> int:
        """Tokens of the packed row."""
        return len(self.packed)

    @property
    def size(self) -> int:
        """What it counts in an optimizer step: its pairs, or one for a gold answer alone."""
        return len(self.pairs) or 1

    def measured(self, log_probs: Sequence[Sequence[float]]) -> PreferenceRow:
        """The row with the reference's `log_probs`, [pairs, 2], in its pairs; it packs to the same row."""
        pairs = zip(self.pairs, log_probs, strict=True)
        row = replace(self, pairs=tuple(replace(p, reference=(chosen, rejected)) for p, (chosen, rejected) in pairs))
        row.__dict__["packed"] = self.packed
        return row


@dataclass(frozen=True, slots=True)
class FittedRows:
    """What is left to train on, and how many pairs were refused or shortened because their prompt is too long."""

    rows: tuple[PreferenceRow, ...]
    refused: int
    cut: int


def fit_rows(
    rows: Sequence[PreferenceRow], max_tokens: int, overlong: Literal["refuse", "cut_left"] = "refuse"
) -> FittedRows:
    """Rows whose every sequence (prompt, path and branch) has at most `max_tokens` tokens.

    A completion is never touched; a gold answer that is too long is left out. `refuse` drops the pairs that are too
    long; `cut_left` drops the oldest tokens of the tree's prompt instead, and refuses only what would leave none of it.
    """
    kept, refused, cut = [], 0, 0
    for row in rows:
        room = max_tokens - (1 if overlong == "cut_left" else len(row.prompt))
        pairs = tuple(pair for pair in row.pairs if pair.depth <= room)
        refused += len(row.pairs) - len(pairs)
        gold = row.gold if len(row.gold) <= room and (pairs or not row.pairs) else ()
        if not pairs and not gold:
            continue
        longest = max(len(gold), *(pair.depth for pair in pairs), 0)
        surplus = max(0, len(row.prompt) + longest - max_tokens)
        cut += len(pairs) if surplus else 0
        kept.append(replace(row, prompt=row.prompt[surplus:], pairs=pairs, gold=gold))
    return FittedRows(tuple(kept), refused, cut)


def batches_of_items(items: Sequence[T], size: int) -> list[list[T]]:
    """Steps of the next `size` items; the last may have fewer."""
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def batches_of_pairs(rows: Sequence[PreferenceRow], size: int) -> list[list[PreferenceRow]]:
    """Steps of exactly `size` pairs (the last may have fewer), in the rows' order; a row is split where one ends.

    A gold answer without a pair takes the place of one; that of a row which is split stays with its first part. A row
    that is not split is the same object, with what it has computed.
    """
    steps: list[list[PreferenceRow]] = []
    room = 0
    for row in rows:
        rest: PreferenceRow | None = row
        while rest:
            if not room:
                steps.append([])
                room = size
            part, rest = _split(rest, room)
            steps[-1].append(part)
            room -= part.size
    return steps


def _split(row: PreferenceRow, room: int) -> tuple[PreferenceRow, PreferenceRow | None]:
    if row.size <= room:
        return row, None
    return replace(row, pairs=row.pairs[:room]), replace(row, pairs=row.pairs[room:], gold=())

"""How many floating-point operations a computation needs, whoever computes it and however.

A forward pass of a decoder over some token columns needs

    2 · N · columns  +  4 · layers · heads · d · seen  +  2 · H · V · logits

N       parameters of the decoder without its embedding: one multiplication and one addition each
seen    tokens that the columns attend to, themselves included, summed over the columns: in every layer and head one
        product of d with each key, and one with each value
logits  places that are projected to the vocabulary, V rows of width H

A column is needed once for each distinct prefix whose keys, values or logits something reads. Padding is not needed,
nor what is computed a second time.

Training an adapter on a frozen model needs a backward pass too: of the frozen weights' products one more each, for the
gradient of their input; of the attention's two more each; and of the adapter's own products three times the forward
pass's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What the formula asks of a model. `parameters` are N, `adapter` those of a LoRA adapter that is trained."""

    parameters: int
    layers: int
    heads: int
    head_width: int
    hidden: int
    vocabulary: int
    adapter: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """Token columns, tokens that they attend to in sum, and places whose logits are read."""

    columns: int = 0
    seen: int = 0
    logits: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.columns + other.columns, self.seen + other.seen, self.logits + other.logits)

    def __mul__(self, times: float) -> Work:
        """The same for so many alike; a mean over unlike ones need not be a whole number of them."""
        return Work(round(self.columns * times), round(self.seen * times), round(self.logits * times))


def chain_work(length: int, before: int = 0, logits: int = 0) -> Work:
    """The work of `length` columns, one after the other, behind `before` tokens."""
    return Work(length, length * before + length * (length + 1) // 2, logits)


def forward_flops(size: ModelSize, work: Work) -> float:
    """FLOP of a forward pass."""
    return _dense(size, work) + _attention(size, work)


def training_flops(size: ModelSize, work: Work) -> float:
    """FLOP of a forward and a backward pass of an adapter on a frozen model."""
    return 2 * _dense(size, work) + 3 * _attention(size, work) + 6.0 * size.adapter * work.columns


def _dense(size: ModelSize, work: Work) -> float:
    return 2.0 * size.parameters * work.columns + 2.0 * size.hidden * size.vocabulary * work.logits


def _attention(size: ModelSize, work: Work) -> float:
    return 4.0 * size.layers * size.heads * size.head_width * work.seen

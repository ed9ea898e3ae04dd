"""How many floating-point operations a computation needs, whoever computes it and however.

A forward pass of a decoder over some token columns needs

    2 · N · columns  +  4 · layers · heads · d · seen  +  2 · H · V · logits

N       parameters of the decoder without its embedding: one multiplication and one addition each
seen    tokens that the columns attend to, themselves included, summed over the columns: in every layer and head one
        product of d with each key, and one with each value
logits  places that are projected to the vocabulary, V rows of width H

A column is needed once for each distinct prefix whose keys, values or logits something reads. Padding is not needed,
nor what is computed a second time. The share of the matrix rate is the FLOP needed, divided by the seconds taken and by
the FLOP/s of the machine's better matrix products.

Training an adapter on a frozen model needs a backward pass too: of the frozen weights' products one more each, for the
gradient of their input; of the attention's two more each; and of the adapter's own products three times the forward
pass's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from itool_pipeline.engines.logits import decoder_of

Tokens = tuple[int, ...]


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


def model_size(model: Any, adapter: int = 0) -> ModelSize:
    """The size of transformers' causal model `model`."""
    decoder, config = decoder_of(model), model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    parameters = sum(p.numel() for p in decoder.parameters()) - decoder.get_input_embeddings().weight.numel()
    return ModelSize(
        parameters,
        config.num_hidden_layers,
        config.num_attention_heads,
        width,
        config.hidden_size,
        config.vocab_size,
        adapter,
    )


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


class PrefixWork:
    """The work of prefixes after prompts: each distinct one is a column that is needed once."""

    def __init__(self) -> None:
        self._prefixes: dict[Tokens, set[Tokens]] = defaultdict(set)
        self._read: dict[Tokens, set[Tokens]] = defaultdict(set)
        self._closing: dict[Tokens, dict[Tokens, int]] = defaultdict(dict)

    def add_path(self, prompt: Tokens, path: Sequence[int]) -> None:
        """All prefixes of `path` after `prompt` are needed, and the prompt itself."""
        known = self._prefixes[prompt]
        for end in range(len(path), 0, -1):
            prefix = tuple(path[:end])
            if prefix in known:
                break
            known.add(prefix)

    def add_draws(self, prompt: Tokens, path: Sequence[int], draws: Iterable[Sequence[int]]) -> None:
        """Tokens were drawn after `path`: the logits before each were read; the last one's column was not needed."""
        self.add_path(prompt, path)
        for drawn in draws:
            self.add_path(prompt, (*path, *drawn[:-1]))
            self._read[prompt] |= {(*path, *drawn[:end]) for end in range(len(drawn))}

    def add_closing(self, prompt: Tokens, path: Sequence[int], closing: int) -> None:
        """`closing` words follow `path`, and the logits after the last of them are read."""
        self.add_path(prompt, path)
        self._closing[prompt][tuple(path)] = closing

    def total(self) -> Work:
        """The work of all that was added."""
        work = Work()
        for prompt, prefixes in self._prefixes.items():
            start = len(prompt)
            work += chain_work(start, 0, len(self._read[prompt]))
            work += Work(len(prefixes), sum(start + len(prefix) for prefix in prefixes))
            for path, closing in self._closing[prompt].items():
                work += chain_work(closing, start + len(path), 1)
        return work

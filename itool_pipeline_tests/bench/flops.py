"""The FLOP that a search or a training needs, of a model and of requests that are there.

The formula is `steps.forecast.flops`, which foresees by it too. The share of the matrix rate is the FLOP needed,
divided by the seconds taken and by the FLOP/s of the machine's better matrix products.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from itool_pipeline.engines.logits import decoder_of
from itool_pipeline.steps.forecast.flops import ModelSize, Work, chain_work

Tokens = tuple[int, ...]


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

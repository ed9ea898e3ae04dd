"""The sizes of an experiment's model: by its config.json where that is here, else by the table of known models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.config import EndpointModel, Experiment, HubModel, LoraConfig
from itool_pipeline.data.base_model import base_model_path, local_model
from itool_pipeline.data.model_folder import read_config_json
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.steps.forecast.flops import ModelSize
from itool_pipeline.store.manifest import Artifact


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of Llama's kind: with grouped keys and values, and a gated network of width `inner` in each layer.

    The fields have the names of a config.json; all are counts but `tied`: whether the output shares the embedding.
    """

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tied: bool

    @property
    def _products(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of a layer's matrices: query, key, value, output; gate, up, down."""
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        attention = ((hidden, query), (hidden, key), (hidden, key), (query, hidden))
        return (*attention, (hidden, inner), (hidden, inner), (inner, hidden))

    @property
    def decoder_parameters(self) -> int:
        """Without the embedding and the norms."""
        return self.num_hidden_layers * sum(a * b for a, b in self._products)

    @property
    def parameters(self) -> int:
        """With the embedding, and with the output where that is another matrix."""
        return self.decoder_parameters + (1 if self.tied else 2) * self.hidden_size * self.vocab_size

    def adapter_parameters(self, lora: LoraConfig) -> int:
        """Of an adapter on all matrices of the layers; where the config names some, it has fewer."""
        return self.num_hidden_layers * sum(lora.rank * (a + b) for a, b in self._products)

    def cache_numbers(self) -> int:
        """Numbers that one token has in the KV cache: a key and a value in every layer."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    def size(self, lora: LoraConfig) -> ModelSize:
        """What the formula of FLOP asks for."""
        return ModelSize(
            self.decoder_parameters,
            self.num_hidden_layers,
            self.num_attention_heads,
            self.head_dim,
            self.hidden_size,
            self.vocab_size,
            self.adapter_parameters(lora),
        )


SMOLLM2_SHAPE = ModelShape(30, 576, 1536, 9, 3, 64, 49152, tied=True)
KNOWN: Mapping[str, ModelShape] = {
    "meta-llama/Llama-3.1-8B-Instruct": ModelShape(32, 4096, 14336, 32, 8, 128, 128256, tied=False),
    "meta-llama/Llama-3.2-3B-Instruct": ModelShape(28, 3072, 8192, 24, 8, 128, 128256, tied=True),
    "Qwen/Qwen2.5-7B-Instruct": ModelShape(28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    "Qwen/Qwen2.5-0.5B-Instruct": ModelShape(24, 896, 4864, 14, 2, 64, 151936, tied=True),
}
"""Of models that the shipped experiments and the README name, by their config.json, so that no download is needed."""

_OTHERWISE: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "intermediate_size": ("n_inner",),
}
"""What some families call the keys."""


def model_folder(experiment: Experiment, base: Artifact | None) -> Path | None:
    """The folder of the experiment's model where it is on this machine. `base`: the finished artifact `base_model`.

    Raises FetchError for a folder that the config names and that has gone.
    """
    if isinstance(experiment.model, EndpointModel):
        raise ModelError(
            f"{experiment.name}: model.type is endpoint, which computes nothing here. What it may spend on a benchmark "
            "is bounded by model.max_total_tokens and model.max_cost"
        )
    if base is not None:
        return base_model_path(base.path)
    return local_model(experiment.model) if isinstance(experiment.model, HubModel) else None


def shape_of(experiment: Experiment, folder: Path | None) -> ModelShape:
    """The sizes of the experiment's model. Raises ModelError for a model that is neither here nor in the table."""
    if folder is not None:
        return stated_shape(read_config_json(folder))
    if not isinstance(experiment.model, HubModel):
        return SMOLLM2_SHAPE
    if experiment.model.name not in KNOWN:
        raise ModelError(
            f"{experiment.model.name} is not on this machine, and a dry run downloads nothing: name its folder "
            f"(--set model.name=FOLDER), or one of {', '.join(KNOWN)}, whose sizes are known"
        )
    return KNOWN[experiment.model.name]


def stated_shape(config: Mapping[str, Any]) -> ModelShape:
    """The sizes that a config.json states. Raises ModelError when a size that has no default is missing."""
    hidden, layers = _stated(config, "hidden_size"), _stated(config, "num_hidden_layers")
    heads = _stated(config, "num_attention_heads")
    return ModelShape(
        layers,
        hidden,
        _stated(config, "intermediate_size", 4 * hidden),
        heads,
        _stated(config, "num_key_value_heads", heads),
        _stated(config, "head_dim", hidden // heads),
        _stated(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def _stated(config: Mapping[str, Any], key: str, otherwise: int | None = None) -> int:
    for name in (key, *_OTHERWISE.get(key, ())):
        if isinstance(config.get(name), int):
            return int(config[name])
    if otherwise is None:
        raise ModelError(f"the model's config.json states no {key}, so its FLOP cannot be told")
    return otherwise

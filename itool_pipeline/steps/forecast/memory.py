"""What a step holds in memory at most: weights, keys and values, activations, and an optimizer's numbers."""

from __future__ import annotations

from dataclasses import dataclass

from itool_pipeline.config import Experiment, OptimizerConfig
from itool_pipeline.steps.forecast.model_shape import ModelShape
from itool_pipeline.steps.forecast.work import StepWork

GIB = 2**30
BYTES = {"bfloat16": 2, "float32": 4}
NF4_BYTES = 0.56
"""Of a weight in 4 bits, with its share of the scales."""
ADAPTER_BYTES = 16
"""Of a trained parameter: itself, its gradient and Adam's two moments, in fp32."""
HIDDEN_KEPT, INNER_KEPT = 8, 4
"""Numbers of the hidden and of the inner width that training keeps of a token in each layer for the gradients. They
give the 24 GiB that 4,096 tokens of the 8B model took in bf16 beside its weights (docs/results.md, "On a GPU")."""


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB. `loading` is held before the rest: the weights in fp32, while an adapter is merged into them."""

    weights: float
    cache: float
    activations: float
    loading: float = 0.0

    @property
    def total(self) -> float:
        return max(self.weights + self.cache + self.activations, self.loading)


def answering_memory(e: Experiment, shape: ModelShape, work: StepWork, dtype: str) -> Memory:
    """Of a step that reads and generates, at most; what the libraries themselves take comes on top."""
    each, tokens = BYTES[dtype], work.reads + work.generates
    cached = min(tokens * shape.cache_numbers() * each / GIB, e.compute.prefix_cache_gib)
    activations = min(e.compute.batch_tokens, tokens) * _kept_of_a_layer(shape) * each / GIB
    merged = shape.parameters * BYTES["float32"] / GIB
    return Memory(shape.parameters * each / GIB, cached, activations, merged)


def training_memory(
    e: Experiment, shape: ModelShape, work: StepWork, dtype: str, optimizer: OptimizerConfig, *, in_4_bits: bool
) -> Memory:
    """Of a step that trains, at most. `in_4_bits`: the frozen weights, but for the embedding and the output."""
    each, layers, layer = BYTES[dtype], shape.num_hidden_layers, _kept_of_a_layer(shape)
    tokens = min(max(optimizer.micro_batch_tokens, work.row), work.trains)
    kept = layers * shape.hidden_size + layer if e.compute.gradient_checkpointing else layers * layer
    outside = shape.parameters - shape.decoder_parameters
    frozen = shape.decoder_parameters * (NF4_BYTES if in_4_bits else each) + outside * each
    adapter = shape.adapter_parameters(e.warmup.lora) * ADAPTER_BYTES
    return Memory((frozen + adapter) / GIB, 0.0, tokens * kept * each / GIB)


def _kept_of_a_layer(shape: ModelShape) -> int:
    """Numbers, of one token."""
    return HIDDEN_KEPT * shape.hidden_size + INNER_KEPT * shape.intermediate_size

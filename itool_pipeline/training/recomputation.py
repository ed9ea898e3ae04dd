"""Gradient checkpointing: of each layer only the input is kept, and the backward pass computes the layer again.

transformers' own asks for layers in training mode, in which some also draw the base model's dropout, which no training
here does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from itool_pipeline.training.job import TrainingError


def use_gradient_checkpointing(model: PreTrainedModel) -> int:
    """Let the layers of `model` keep their inputs alone wherever gradients are taken; returns how many there are.

    The gradients are the same bit for bit: dropout is drawn again as it was. Raises TrainingError when the model's
    class does not tell its layers.
    """
    layers = layers_of(model, "compute.gradient_checkpointing")
    for layer in layers:
        layer.forward = _recomputed(layer.forward)
    return len(layers)


def layers_of(model: PreTrainedModel, setting: str) -> list[GradientCheckpointingLayer]:
    """The layers of `model`, first to last. Raises TrainingError, naming the `setting`, when it does not tell them."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise TrainingError(
            f"{setting}: {type(model).__name__} does not tell its layers; switch it off and lower "
            "micro_batch_tokens of the optimizer instead"
        )
    return layers


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def kept(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return kept

"""The LoRA adapter that is trained: made, continued and saved.

One adapter goes through all stages: each starts from the weights of the stage before, and every checkpoint is one
self-contained adapter on the untouched base model (App. B.1: rank 16, alpha 32).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from itool_pipeline.config import LoraConfig
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from itool_pipeline.engines.adapter import attach_adapter
from itool_pipeline.files.durable import remove_tree, write_whole
from itool_pipeline.training.job import TrainingError


def fresh_adapter(model: Any, config: LoraConfig, seed: int) -> Any:
    """peft's model: `model` frozen, with a new trainable adapter in fp32 that does not change its outputs yet.

    `all-linear` is every linear layer but the output head. The same seed gives the same weights.
    Raises TrainingError when no layer matches `config.targets`.
    """
    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets if isinstance(config.targets, str) else list(config.targets),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, settings)
        except ValueError as error:
            raise TrainingError(f"lora.targets {config.targets} match no layer of the model: {error}") from error


def continued_adapter(model: Any, directory: Path) -> Any:
    """peft's model: `model` frozen, with the adapter of `directory` to be trained on. Raises ModelError."""
    return attach_adapter(model, directory, trainable=True)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name → parameter, for all that have gradients, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapter(model: Any, directory: Path, write: Callable[..., Path] = write_whole) -> None:
    """Write the adapter as peft reads it, weights in safetensors; `directory` appears whole or not at all.

    `write` is `write_sealed` for one that another run may go on with.

    The file is the same byte for byte for the same weights: neither time nor the base model's path is in it.
    """
    weights = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model, save_embedding_layers=False).items())
    }

    def fill(scratch: Path) -> None:
        scratch.mkdir()
        save_file(weights, str(scratch / ADAPTER_WEIGHTS), metadata={"format": "pt"})
        (scratch / ADAPTER_CONFIG).write_text(json.dumps(_settings(model), indent=2, sort_keys=True) + "\n")

    remove_tree(directory)
    write(directory, fill, what="the adapter", alone=True)


def _settings(model: Any) -> dict[str, Any]:
    settings: dict[str, Any] = model.peft_config[model.active_adapter].to_dict()
    settings.update(base_model_name_or_path=None, inference_mode=True, auto_mapping=None)
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}

"""A LoRA adapter on a base model: whether it is one of that model, and peft's model with it.

Its config is data: of it what makes a LoRA is handed to peft, as other settings make peft import what they name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from itool_pipeline.data.own_adapter import lora_settings
from itool_pipeline.engines.model_config import ModelError, read_model_config, refusing_what_is_unread, require_file

_PEFT_PREFIX = "base_model.model."


def attach_adapter(model: PreTrainedModel, adapter: Path, *, trainable: bool) -> Any:
    """peft's model: `model` with the LoRA weights of the directory `adapter`, in fp32.

    Raises ModelError when the adapter is incomplete or was trained on a model of other layers or sizes, and FetchError
    when its config is not that of a LoRA.
    """
    with refusing_what_is_unread(_unread(adapter)):
        settings = _settings(model, adapter)
        attached = PeftModel.from_pretrained(model, str(adapter), config=settings, is_trainable=trainable)
        _require_stated_weights(attached, adapter)
    return attached


def require_fitting_adapter(directory: Path, adapter: Path) -> None:
    """Raise as `attach_adapter` does, of the model in `directory`. No weights are read."""
    config = read_model_config(directory)
    with refusing_what_is_unread(f"{directory}: transformers cannot make its model"), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    with refusing_what_is_unread(_unread(adapter)), torch.device("meta"):
        _require_stated_weights(get_peft_model(model, _settings(model, adapter)), adapter)


def _settings(model: PreTrainedModel, adapter: Path) -> LoraConfig:
    require_file(adapter, ADAPTER_CONFIG, "adapter")
    require_file(adapter, ADAPTER_WEIGHTS, "adapter")
    _check_adapter_fits(model, adapter)
    return LoraConfig(**lora_settings(adapter))


def _unread(adapter: Path) -> str:
    return f"{adapter} holds no LoRA adapter that peft reads"


def _check_adapter_fits(model: PreTrainedModel, adapter: Path) -> None:
    modules = dict(model.named_modules())
    for _, name, kind, shape in _adapter_shapes(adapter / ADAPTER_WEIGHTS):
        module = modules.get(name)
        if module is None:
            raise ModelError(f"{adapter} is an adapter of another model: this one has no layer {name}")
        if not hasattr(module, "in_features"):  # as GPT-2's, whose sizes are compared with peft's own
            continue
        features, axis = (module.in_features, 1) if kind == "lora_A" else (module.out_features, 0)
        if shape[axis] != features:
            raise ModelError(
                f"{adapter} is an adapter of another model: its {kind} at {name} is made for {shape[axis]} features, "
                f"this layer has {features}"
            )


def _adapter_shapes(weights: Path) -> Iterator[tuple[str, str, str, list[int]]]:
    """(name, module, `lora_A` or `lora_B`, shape) of each tensor of an adapter file."""
    with safe_open(str(weights), framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 - not a mapping
            module, _, kind = key.removeprefix(_PEFT_PREFIX).removesuffix(".weight").rpartition(".")
            if kind not in ("lora_A", "lora_B"):
                raise ModelError(f"{weights}: {key} is not a LoRA weight")
            yield key, module, kind, tensors.get_slice(key).get_shape()


def _require_stated_weights(attached: Any, adapter: Path) -> None:
    """Weights that the config does not name would be left out, and those that are missing be nothing, in silence."""
    named = get_peft_model_state_dict(attached, save_embedding_layers=False)
    wanted = {name: list(weight.shape) for name, weight in named.items()}
    found = {name: shape for name, _, _, shape in _adapter_shapes(adapter / ADAPTER_WEIGHTS)}
    differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differ:
        raise ModelError(
            f"{adapter}: its weights are not those that its {ADAPTER_CONFIG} states ({differ[0]} first, "
            f"of {len(differ)}); save it again"
        )

"""A policy as a folder that others load: merged weights, its adapter, tokenizer, chat template, generation config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from itool_pipeline.calls.served import ServedSyntax
from itool_pipeline.config import ComputeConfig
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, weight_files
from itool_pipeline.engines.chat import Chat
from itool_pipeline.engines.model import load_model
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.served_template import served_template

ADAPTER, TEMPLATE, GENERATION = "adapter", "chat_template.jinja", "generation_config.json"
"""In an exported folder."""

_SAVED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""safetensors' names of the dtypes that models are saved in."""


@dataclass(frozen=True, slots=True)
class BaseName:
    """What an adapter says of its base: a name that means the same on every machine, and the revision if it has one."""

    name: str
    revision: str | None = None


def export_weights(directory: Path, adapter: Path | None, out: Path) -> dict[str, Any]:
    """Save the model in `directory` with the adapter merged, in the dtype that the model is saved in, with its config.

    The adapter is merged in fp32 and then rounded, as the engine that scored it does: it takes four bytes of memory
    for each parameter. Returns dtype and parameters (count). Raises ModelError for a model that cannot be loaded, and
    for one saved in another dtype than fp32, bf16 or fp16.
    """
    dtype = saved_dtype(directory)
    loaded = load_model(directory, ComputeConfig(device="cpu", dtype="float32"), adapter=adapter, merge=True)
    model = loaded.model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(out)
    for file in weight_files(out):
        file.chmod(0o644)  # as the other files, and not for one user alone
    return {"dtype": str(dtype).removeprefix("torch."), "parameters": model.num_parameters()}


def saved_dtype(directory: Path) -> torch.dtype:
    """The dtype of the most weights of a saved model. Raises ModelError for one that no model is merged in."""
    counts: dict[str, int] = {}
    for file in weight_files(directory):
        with safe_open(str(file), framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                part = tensors.get_slice(key)
                counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + _size(part.get_shape())
    most = max(counts, key=lambda name: counts[name])
    if most not in _SAVED:
        raise ModelError(
            f"{directory} is saved in {most}; an adapter is merged into weights in fp32, bf16 or fp16 alone"
        )
    return _SAVED[most]


def _size(shape: list[int]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def export_adapter(adapter: Path, base: BaseName, out: Path) -> None:
    """Copy the adapter; its config names the base as others find it, and no path of this machine."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(adapter / ADAPTER_WEIGHTS, out / ADAPTER_WEIGHTS)
    config = json.loads((adapter / ADAPTER_CONFIG).read_text())
    config.update(base_model_name_or_path=base.name, revision=base.revision)
    _write_json(out / ADAPTER_CONFIG, config)


def export_chat(chat: Chat, tokenizer: Any, syntax: ServedSyntax, out: Path) -> None:
    """Save the tokenizer with the chat template that serves the prompts of training. Raises ChatTemplateError."""
    own, tokenizer.chat_template = tokenizer.chat_template, served_template(chat.template, syntax)
    try:
        tokenizer.save_pretrained(out)
    finally:
        tokenizer.chat_template = own


def export_generation(directory: Path, end_token: int, out: Path) -> None:
    """Write generation_config.json: greedy, and ended by the token that training ends a turn with or the model's own.

    What else the base model's says (a penalty, a temperature) is left out: nothing was scored with it.
    """
    stated = _json(directory / GENERATION) or _json(directory / "config.json")
    own = stated.get("eos_token_id")
    ends = [end_token, *(own if isinstance(own, list) else [] if own is None else [own])]
    kept = {key: stated[key] for key in ("bos_token_id", "pad_token_id") if stated.get(key) is not None}
    # vLLM and others take the temperature for what is not asked otherwise; transformers takes do_sample.
    _write_json(
        out / GENERATION, {**kept, "eos_token_id": list(dict.fromkeys(ends)), "do_sample": False, "temperature": 0.0}
    )


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

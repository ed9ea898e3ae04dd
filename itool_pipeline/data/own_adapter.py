"""The user's own LoRA adapter: where it is, and whether it is one that can be gone on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itool_pipeline.data.hub import download_model
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, json_object_of
from itool_pipeline.data.wheels import FetchError
from itool_pipeline.files.hashes import joined_sha256

_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
_SETTINGS = (
    *("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
)
"""What says of a plain LoRA how its weights are used."""
_OTHER_KINDS = {"use_dora": "DoRA", "use_qalora": "QALoRA", "use_bdlora": "block-diagonal LoRA"}
_HELD_BESIDE = {"trainable_token_indices": "token embeddings", "lora_bias": "biases of its own"}
_OF_NO_MATTER = (
    *("base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version", "runtime_config"),
    *("qalora_group_size", "megatron_core", "ensure_weight_tying"),
    *("eva_config", "corda_config", "lora_ga_config", "loftq_config"),
)
"""What it may say beside: where it is from, and settings of what it is not, or of how it began."""
_PLAIN_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Other beginnings, such as PiSSA's, change the weights of the base."""


def local_adapter(name: str) -> Path | None:
    """The folder that `warmup.adapter` names; None for a repository of the hub. Raises FetchError if there is none."""
    local = Path(name).expanduser()
    if local.is_dir():
        return local.resolve()
    if local.exists():
        raise FetchError(f"warmup.adapter is {name}, a file: name the folder that holds {ADAPTER_WEIGHTS}.")
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise FetchError(f"The adapter's folder {name} does not exist. Correct warmup.adapter in the experiment.")
    return None


def find_adapter(name: str) -> Path:
    """The folder with the adapter's config and weights: the local one, or a snapshot of OWNER/NAME[@REVISION].

    Raises FetchError as `require_lora` does, and when the hub has no such thing or cannot be reached.
    """
    folder = local_adapter(name)
    if folder is None:
        repository, _, revision = name.partition("@")
        folder = download_model(repository, revision or "main", _FILES)
    require_lora(folder)
    return folder


def require_lora(folder: Path) -> None:
    """Raise FetchError, with what to do, unless the folder holds a LoRA adapter's config and weights in safetensors."""
    for file in _FILES:
        if not (folder / file).is_file():
            raise FetchError(
                f"{folder} has no {file}, so it holds no adapter that is read: save it with peft's `save_pretrained`, "
                "weights in safetensors."
            )
    lora_settings(folder)


def lora_settings(folder: Path) -> dict[str, Any]:
    """What its config says of how the weights are used. Raises FetchError where it is more than a plain LoRA."""
    config = adapter_config(folder)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise FetchError(f"{folder} is an adapter of the kind {kind}; warmup.adapter takes LoRA alone.")
    also = _beyond_plain(config)
    if also:
        raise FetchError(
            f"{folder} holds more than plain LoRA: {', '.join(also)}. Merge it into the base model (peft's "
            "`merge_and_unload`), save that, and name its folder as model.name."
        )
    return {key: config[key] for key in _SETTINGS if key in config}


def _beyond_plain(config: Mapping[str, Any]) -> list[str]:
    also = [said for key, said in (_OTHER_KINDS | _HELD_BESIDE).items() if config.get(key)]
    also += [f"whole layers ({config['modules_to_save']})"] if config.get("modules_to_save") else []
    also += ["biases"] if config.get("bias") not in (None, "none") else []
    beginning = config.get("init_lora_weights")
    beginning = beginning.lower() if isinstance(beginning, str) else beginning
    also += [] if beginning in _PLAIN_BEGINNINGS else [f"a base whose weights were changed for it ({beginning})"]
    named = (*_SETTINGS, *_OTHER_KINDS, *_HELD_BESIDE, *_OF_NO_MATTER, "modules_to_save", "bias", "init_lora_weights")
    return also + [key for key, value in config.items() if value and key not in named]


def adapter_config(folder: Path) -> dict[str, Any]:
    """Its adapter_config.json. Raises FetchError when that cannot be read."""
    return json_object_of(folder / ADAPTER_CONFIG)


def adapter_content(name: str) -> str:
    """What tells one adapter from another: of a local one sha256 of its files, of one on the hub its name."""
    local = Path(name).expanduser()
    files = [local / file for file in _FILES]
    return joined_sha256(files) if all(file.is_file() for file in files) else name


def copy_adapter(folder: Path, out: Path) -> None:
    """Copy weights and settings, without the names of another machine and of code that peft would import."""
    out.mkdir(parents=True)
    (out / ADAPTER_WEIGHTS).write_bytes((folder / ADAPTER_WEIGHTS).read_bytes())
    config = {**lora_settings(folder), "base_model_name_or_path": None, "inference_mode": True}
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

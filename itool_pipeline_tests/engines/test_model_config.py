"""What a model's folder says of it: what cannot be used is refused in words, before weights are read or by them."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Gemma3Config, LlamaConfig

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.model import LoadedModel, load_model, load_tokenizer
from itool_pipeline.engines.model_config import ModelError, context_length, read_model_config, refusing_what_is_unread
from itool_pipeline.errors import ActionableError

FP32 = ComputeConfig(device="cpu", dtype="float32")
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def folder(path: Path, config: Any) -> Path:
    """A directory with nothing but that config.json."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {**LLAMA, "quantization_config": {"quant_method": "gptq"}},
            r"LlamaForCausalLM is saved quantised .*gptq.*nf4",
        ),
        ({**LLAMA, "quantization_config": {"load_in_4bit": True}}, "is saved quantised"),
        ({**LLAMA, "compression_config": {"quant_method": "fp8"}}, "is saved quantised"),
        (
            {"architectures": ["OwnForCausalLM"], "model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}},
            "OwnForCausalLM is made by code of its own, and a model's code is never run",
        ),
        ({"model_type": "never_heard_of"}, "no config that transformers reads"),
        ({}, "no config that transformers reads"),
        ({**LLAMA, "max_position_embeddings": {"value": 4096}}, "no config that transformers reads .*field 'max_posit"),
        ("[1]", "is no JSON object"),
        ("{", "cannot be read"),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "T5.* is no causal language model"),
        (
            {"architectures": ["BartForConditionalGeneration"], "model_type": "bart"},
            "Bart.* is no causal language model",
        ),
        ({"architectures": ["ViTModel"], "model_type": "vit"}, "ViTModel is no causal language model"),
        (
            {**Gemma3Config().to_diff_dict(), "architectures": ["Gemma3ForConditionalGeneration"]},
            "Gemma3ForConditionalGeneration reads more than text",
        ),
        (
            {"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl"},
            "Qwen2VLForConditionalGeneration reads more than text",
        ),
    ],
)
def test_what_is_no_model_for_text_is_refused(tmp_path: Path, config: Any, told: str) -> None:
    with pytest.raises(ActionableError, match=told):
        read_model_config(folder(tmp_path, config))


def test_code_beside_a_model_that_transformers_has_is_passed_over(tmp_path: Path) -> None:
    stated = {**LlamaConfig().to_diff_dict(), "auto_map": {"AutoConfig": "own.OwnConfig"}}
    assert isinstance(read_model_config(folder(tmp_path, stated)), LlamaConfig)


def test_a_folder_of_an_adapter_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path, LLAMA) / "adapter_config.json").write_text("{}")
    with pytest.raises(ActionableError, match=r"is a LoRA adapter .* Merge it into its base model"):
        read_model_config(tmp_path)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"max_seq_len": 512}, 512),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "longrope"}}, 131072),
        (
            {
                "max_position_embeddings": 131072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope"},
            },
            4096,
        ),
        (
            {
                "max_position_embeddings": 8192,
                "rope_parameters": {"rope_type": "dynamic", "original_max_position_embeddings": 2048},
            },
            2048,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        ({}, None),
    ],
)
def test_the_context_is_what_positions_mean_the_same_in(tmp_path: Path, config: Any, context: int | None) -> None:
    assert context_length(folder(tmp_path, config)) == context


def spoilt(tiny_model_dir: Path, path: Path, change: Any) -> Path:
    """The tiny model with its weights changed."""
    shutil.copytree(tiny_model_dir, path)
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop(NORM), f"lacks the weights {NORM} .1 in all."),
        (
            lambda w: w.update({"model.layers.0.mlp.up_proj.bias": torch.zeros(128)}),
            "that the model does not use model",
        ),
        (lambda w: w[NORM].fill_(float("nan")), f"not finite numbers {NORM}"),
        (lambda w: w[NORM].fill_(float("inf")), f"not finite numbers {NORM}"),
        (lambda w: w.update({NORM: torch.ones(3)}), "size"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    tiny_model_dir: Path, tmp_path: Path, change: Any, told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        load_model(spoilt(tiny_model_dir, tmp_path / "spoilt", change), FP32)


def test_a_broken_file_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match="transformers cannot load its weights"):
        load_model(tmp_path / "broken", FP32)


DAMAGED = [
    (name, content) for name in ("tokenizer_config.json", "tokenizer.json") for content in (b"\xff", b"{", b"[]")
]


@pytest.mark.parametrize(("file", "content"), [*DAMAGED, ("chat_template.jinja", b"\xff")])
def test_a_damaged_tokenizer_is_refused(tiny_model_dir: Path, tmp_path: Path, file: str, content: bytes) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "broken")
    (tmp_path / "broken" / file).write_bytes(content)
    with pytest.raises(ModelError, match="broken holds no tokenizer that transformers reads"):
        load_tokenizer(tmp_path / "broken")


@pytest.mark.parametrize(
    "setting", [{"pad_token": {"value": "x"}}, {"model_max_length": [1]}, {"tokenizer_class": 1.5}], ids=str
)
def test_settings_that_no_tokenizer_has_are_refused(tiny_model_dir: Path, tmp_path: Path, setting: Any) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "broken")
    file = tmp_path / "broken" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    with pytest.raises(ModelError, match="broken holds no tokenizer that transformers reads"):
        load_tokenizer(tmp_path / "broken")


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=repr)
def test_what_is_wrong_with_the_machine_is_not_said_of_the_model(error: Exception) -> None:
    with pytest.raises(type(error)), refusing_what_is_unread("the model is broken"):
        raise error


def test_a_package_that_is_missing_is_to_be_installed() -> None:
    told = r"^no tokenizer \(it requires sentencepiece\); install the package that it needs$"
    with pytest.raises(ModelError, match=told), refusing_what_is_unread("no tokenizer"):
        raise ImportError("it requires sentencepiece")


def test_a_damaged_generation_config_is_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "broken")
    (tmp_path / "broken" / "generation_config.json").write_text('{"max_new_tokens": {"value": 1}}')
    with pytest.raises(ModelError, match="transformers cannot load its weights"):
        load_model(tmp_path / "broken", FP32)


def test_tokens_without_an_embedding_are_refused_unless_they_pad(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "more")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.add_special_tokens({"pad_token": "<only_pads>"})
    tokenizer.save_pretrained(tmp_path / "more")
    load_model(tmp_path / "more", FP32)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(tmp_path / "more")
    with pytest.raises(ModelError, match=r"the tokenizer has 1 tokens \(<tool>\) beyond the \d+ rows"):
        load_model(tmp_path / "more", FP32)


@pytest.mark.parametrize(
    ("generation", "config", "ends"),
    [(2, 2, {2}), ([2, 0], 2, {0, 2}), (None, [7], {7}), (None, None, set()), ([5, 99, -1], 3, {3, 5})],
)
def test_the_end_tokens_are_those_of_both_configs(generation: Any, config: Any, ends: set[int]) -> None:
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=generation),
        config=SimpleNamespace(eos_token_id=config),
        get_input_embeddings=lambda: torch.nn.Embedding(10, 1),
    )
    loaded: Any = SimpleNamespace(model=model)
    assert LoadedModel.end_tokens.__get__(loaded) == ends

"""What an export holds of weights and generation config. Oracles: transformers, and peft's merge in fp32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from itool_pipeline.engines.exporting import GENERATION, export_generation, export_weights, saved_dtype
from itool_pipeline.engines.model import load_tokenizer


@pytest.fixture
def in_bf16(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """The tiny model, saved in bf16."""
    out = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.bfloat16).save_pretrained(out)
    load_tokenizer(tiny_model_dir).save_pretrained(out)
    return out


@pytest.fixture
def adapter(tmp_path: Path, in_bf16: Path) -> Path:
    """An adapter on it with random weights."""
    out = tmp_path / "adapter"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(in_bf16, dtype=torch.float32)
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(out)
    return out


def test_an_adapter_is_merged_in_fp32_and_saved_as_the_base_is(tmp_path: Path, in_bf16: Path, adapter: Path) -> None:
    out = tmp_path / "out"
    assert export_weights(in_bf16, adapter, out)["dtype"] == "bfloat16"
    base = AutoModelForCausalLM.from_pretrained(in_bf16, dtype=torch.float32)
    wanted = PeftModel.from_pretrained(base, adapter).merge_and_unload().state_dict()
    found, before = load_file(out / "model.safetensors"), load_file(in_bf16 / "model.safetensors")
    assert found.keys() == before.keys()
    assert all(torch.equal(found[key], wanted[key].to(torch.bfloat16)) for key in found)
    changed = {key for key in found if not torch.equal(found[key], before[key])}
    assert changed == {key for key in found if "q_proj" in key or "down_proj" in key}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_dtype_is_that_of_the_most_weights_and_not_of_the_most_tensors(tmp_path: Path) -> None:
    norms = {f"norm{i}": torch.ones(8) for i in range(3)}
    save_file({"weight": torch.ones(8, 8, dtype=torch.bfloat16), **norms}, tmp_path / "model.safetensors")
    assert saved_dtype(tmp_path) == torch.bfloat16


@pytest.mark.parametrize(("own", "ends"), [(2, [7, 2]), ([2, 9], [7, 2, 9]), ([2, 7], [7, 2]), (None, [7])])
def test_generation_is_greedy_and_ends_as_training_does(tmp_path: Path, own: Any, ends: list[int]) -> None:
    drawing = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
    (tmp_path / GENERATION).write_text(json.dumps({"eos_token_id": own, "bos_token_id": 1, **drawing}))
    out = tmp_path / "out"
    out.mkdir()
    export_generation(tmp_path, 7, out)
    assert json.loads((out / GENERATION).read_text()) == {
        **{"bos_token_id": 1, "eos_token_id": ends},
        **{"do_sample": False, "temperature": 0.0},
    }

"""The adapter: where it sits, how it starts, and that peft reads what we write."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from itool_pipeline.config import ComputeConfig, LoraConfig
from itool_pipeline.engines.model import load_model
from itool_pipeline.training.job import TrainingError
from itool_pipeline.training.lora import (
    continued_adapter,
    fresh_adapter,
    save_adapter,
    trainable_parameters,
)
from itool_pipeline_tests.training.conftest import AdaptedModel, randomize

FP32 = ComputeConfig(device="cpu", dtype="float32")
IDS = torch.tensor([[5, 17, 9, 300, 2]])


def test_a_fresh_adapter_changes_nothing_yet(tiny_model_dir: Path, adapted_model: AdaptedModel) -> None:
    expected = load_model(tiny_model_dir, FP32).model(IDS).logits
    torch.testing.assert_close(adapted_model(std=0)(IDS).logits, expected, rtol=0, atol=0)


def test_all_linear_leaves_the_head_out_and_is_counted_by_hand(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    names = set(trainable_parameters(model))
    assert not any("lm_head" in name for name in names)
    # Width 64, 4 heads of 16 with 2 for keys and values, MLP 128; rank 4: 4 × (in + out) for each matrix.
    layer = 4 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 2 * (64 + 128) + (128 + 64))
    assert sum(p.numel() for p in trainable_parameters(model).values()) == 2 * layer
    one_kind = trainable_parameters(adapted_model(targets=("q_proj",)))
    assert sum(p.numel() for p in one_kind.values()) == 2 * 4 * (64 + 64)


def test_a_layer_adds_alpha_over_rank_times_b_a(adapted_model: AdaptedModel) -> None:
    """y = W x + (α / r) B A x, written out; by default α = 32 and r = 16 (App. B.1)."""
    assert (LoraConfig().rank, LoraConfig().alpha) == (16, 32)
    for alpha in (4, 20):
        layer = adapted_model(alpha=alpha).get_base_model().model.layers[0].mlp.up_proj
        x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
        delta = (alpha / 4) * x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
        torch.testing.assert_close(layer(x), x @ layer.base_layer.weight.T + delta, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_start(tiny_model_dir: Path) -> None:
    def start(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # the state of the global generator must not matter
        model = fresh_adapter(load_model(tiny_model_dir, FP32).model, LoraConfig(rank=4), seed)
        return torch.cat([p.flatten() for p in trainable_parameters(model).values()])

    assert torch.equal(start(3), start(3))
    assert not torch.equal(start(3), start(4))


def test_unknown_targets_are_refused(adapted_model: AdaptedModel) -> None:
    with pytest.raises(TrainingError, match=r"lora\.targets \('no_such_layer',\) match no layer"):
        adapted_model(targets=("no_such_layer",))


def test_peft_reads_what_is_saved(tiny_model_dir: Path, adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model()
    save_adapter(model, tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(IDS).logits, model.eval()(IDS).logits, rtol=0, atol=0)
    continued = continued_adapter(load_model(tiny_model_dir, FP32).model, tmp_path / "adapter")
    for a, b in zip(trainable_parameters(continued).values(), trainable_parameters(model).values(), strict=True):
        assert torch.equal(a, b)


def test_files_are_the_same_for_the_same_weights(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_adapter(adapted_model(), tmp_path / name)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert json.loads((tmp_path / "one" / "adapter_config.json").read_text())["base_model_name_or_path"] is None


def test_saving_again_replaces_the_whole(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model()
    save_adapter(model, tmp_path / "adapter")
    before = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter" / "stale.txt").write_text("left over")
    save_adapter(randomize(model, std=0.5), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() != before
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["adapter"]

"""Loading models and adapters: precision, merging, 4 bits, and what is refused."""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Params4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from itool_pipeline.config import ComputeConfig
from itool_pipeline.data.model_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from itool_pipeline.engines import model as engine_model
from itool_pipeline.engines.adapter import require_fitting_adapter
from itool_pipeline.engines.model import load_model, resolve_device
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.errors import ActionableError

FP32 = ComputeConfig(device="cpu", dtype="float32")
BF16 = ComputeConfig(device="cpu", dtype="bfloat16")
IDS = torch.tensor([[5, 17, 9, 300, 2]])


def save_peft_adapter(base: Path, directory: Path, std: float = 0.2) -> Path:
    """An adapter with random B, written by peft itself."""
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapter(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_peft_adapter(tiny_model_dir, tmp_path_factory.mktemp("adapter"))


def test_a_missing_gpu_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(ComputeConfig()).type == "cpu"
    with pytest.raises(ModelError, match="torch sees no GPU"):
        resolve_device(ComputeConfig(device="cuda"))


@pytest.mark.parametrize(("found", "dtype"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_auto_is_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, found: str, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(engine_model, "resolve_dtype", lambda compute, device, base, **_: found)
    assert load_model(tiny_model_dir, ComputeConfig(device="cpu")).dtype == dtype


def test_the_base_model_is_frozen_and_in_the_asked_dtype(tiny_model_dir: Path) -> None:
    loaded = load_model(tiny_model_dir, BF16)
    assert loaded.dtype == torch.bfloat16
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template


def test_an_adapter_unmerged_and_merged_computes_what_peft_does(tiny_model_dir: Path, adapter: Path) -> None:
    oracle = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32), adapter
    )
    expected = oracle.eval()(IDS).logits
    base = load_model(tiny_model_dir, FP32).model(IDS).logits
    assert (expected - base).abs().max() > 0.05
    for merge in (False, True):
        model = load_model(tiny_model_dir, FP32, adapter=adapter, merge=merge).model
        assert isinstance(model, PeftModel) != merge
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)


def test_merging_rounds_once(tiny_model_dir: Path, tmp_path: Path) -> None:
    """The merged bf16 weight is the rounded fp32 sum, worked out here from the files."""
    small = save_peft_adapter(tiny_model_dir, tmp_path / "small", std=0.01)
    merged = load_model(tiny_model_dir, BF16, adapter=small, merge=True).model
    oracle = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32), small)
    layer = oracle.base_model.model.model.layers[0].mlp.up_proj
    exact = layer.base_layer.weight + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(merged.model.layers[0].mlp.up_proj.weight, exact.bfloat16(), rtol=0, atol=0)


def test_a_trainable_adapter_is_fp32_on_a_bf16_base(tiny_model_dir: Path, adapter: Path) -> None:
    model = load_model(tiny_model_dir, BF16, adapter=adapter, trainable=True).model
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2
    assert set(trained.values()) == {torch.float32}
    assert all("lora_" in name for name in trained)


def test_nf4_is_really_four_bits(tiny_model_dir: Path, adapter: Path) -> None:
    model = load_model(tiny_model_dir, BF16, adapter=adapter, quantization="nf4", trainable=True).model
    packed = [p for p in model.parameters() if isinstance(p, Params4bit)]
    wide = load_model(tiny_model_dir, BF16).model
    linear = [m.weight for m in wide.model.layers.modules() if isinstance(m, torch.nn.Linear)]
    assert len(packed) == len(linear) == 14
    assert sum(p.nbytes for p in packed) * 4 == sum(p.nbytes for p in linear)
    assert all(p.quant_type == "nf4" and p.quant_state.nested for p in packed)


def test_layers_left_wide_are_reported(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = load_model(tiny_model_dir, FP32).model
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: (wide, defaultdict(list)))
    with pytest.raises(ModelError, match=r"not in 4 bits: model\.layers\.0\.self_attn\.q_proj"):
        load_model(tiny_model_dir, FP32, quantization="nf4")


def test_options_that_exclude_each_other(tiny_model_dir: Path, adapter: Path) -> None:
    with pytest.raises(ValueError, match="merge is for inference"):
        load_model(tiny_model_dir, FP32, adapter=adapter, merge=True, trainable=True)
    with pytest.raises(ValueError, match="merge is for inference"):
        load_model(tiny_model_dir, FP32, adapter=adapter, merge=True, quantization="nf4")


def test_missing_parts_are_named(tiny_model_dir: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ActionableError, match=r"There is no folder .*nowhere with a model"):
        load_model(tmp_path / "nowhere", FP32)
    shutil.copytree(tiny_model_dir, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match=r"it has no \*\.safetensors"):
        load_model(tmp_path / "bare", FP32)
    shutil.copytree(adapter, tmp_path / "half", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match=r"half: not a complete adapter: it has no adapter_model\.safetensors"):
        load_model(tiny_model_dir, FP32, adapter=tmp_path / "half")


NOT_STATED = r"are not those that its adapter_config\.json states \(\S+ first, of \d+\)"


@pytest.mark.parametrize(
    ("stated", "attached"),
    [
        ({"target_modules": ["q_proj"]}, NOT_STATED),
        ({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0]}, NOT_STATED),
        ({"r": 2}, "no LoRA adapter that peft reads .*loading state_dict"),
    ],
)
def test_weights_that_the_config_does_not_state_are_refused(
    tiny_model_dir: Path, adapter: Path, tmp_path: Path, stated: dict[str, Any], attached: str
) -> None:
    """peft leaves them out, or makes others of nothing, in silence."""
    other = shutil.copytree(adapter, tmp_path / "other")
    file = other / ADAPTER_CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | stated))
    with pytest.raises(ModelError, match=NOT_STATED):
        require_fitting_adapter(tiny_model_dir, other)
    with pytest.raises(ModelError, match=attached):
        load_model(tiny_model_dir, FP32, adapter=other)


def test_a_base_that_cannot_be_made_is_no_fault_of_the_adapter(
    tiny_model_dir: Path, adapter: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    file = base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "nosuch"}))
    with pytest.raises(ModelError, match="base: transformers cannot make its model"):
        require_fitting_adapter(base, adapter)


def test_weights_that_are_missing_are_refused(tiny_model_dir: Path, adapter: Path, tmp_path: Path) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    weights = load_file(other / ADAPTER_WEIGHTS)
    del weights[next(iter(weights))]
    save_file(weights, other / ADAPTER_WEIGHTS)
    with pytest.raises(ModelError, match=NOT_STATED):
        load_model(tiny_model_dir, FP32, adapter=other)


def test_a_config_imports_nothing(tiny_model_dir: Path, adapter: Path, tmp_path: Path) -> None:
    other = shutil.copytree(adapter, tmp_path / "other")
    (tmp_path / "a_module_of_someone.py").write_text("raise SystemExit('it was run')")
    file = other / ADAPTER_CONFIG
    code = {"megatron_core": "a_module_of_someone", "auto_mapping": {"parent_library": "a_module_of_someone"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | code))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        load_model(tiny_model_dir, FP32, adapter=other)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"megatron_config": {"x": 1}}))
        with pytest.raises(ActionableError, match="plain LoRA: megatron_config"):
            load_model(tiny_model_dir, FP32, adapter=other)


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ({"hidden_size": 32, "head_dim": 8}, "made for 64 features, this layer has 32"),
        ({"num_hidden_layers": 1}, "no layer model.layers.1"),
    ],
)
def test_an_adapter_of_another_model_is_refused(
    tiny_model_dir: Path, adapter: Path, tmp_path: Path, size: dict[str, int], reason: str
) -> None:
    config = LlamaConfig.from_pretrained(tiny_model_dir)
    config.update(size)
    shutil.copytree(
        tiny_model_dir, tmp_path / "other", ignore=shutil.ignore_patterns("model.safetensors", "config.json")
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match=f"adapter of another model.*{reason}"):
        load_model(tmp_path / "other", FP32, adapter=adapter)

"""The embedded model converts, reloads and knows its chat template."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from itool_pipeline.config import HubModel
from itool_pipeline.data.base_model import (
    base_model_path,
    describe_weights,
    prepare_base_model,
    require_same_weights,
)
from itool_pipeline.data.wheels import FetchError


def test_converted_model_is_described(base_model_dir: Path) -> None:
    source = json.loads((base_model_dir / "source.json").read_text())
    # tied embedding; 30 layers of attention (q, k, v, o), gated feed-forward and two norms; a last norm
    layer = 576 * (576 + 192 + 192 + 576) + 3 * 576 * 1536 + 2 * 576
    assert source["parameters"] == 49152 * 576 + 30 * layer + 576
    assert source["architecture"] == "LlamaForCausalLM"
    assert source["license"] == "apache-2.0"
    assert base_model_path(base_model_dir) == base_model_dir


def test_tokenizer_keeps_template_digits_and_text(base_model_dir: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model_dir)
    text = '[f(a=1234, b="é x")]\n  56'
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("  56") == ["ĠĠ", "5", "6"]
    rendered = tokenizer.apply_chat_template(
        [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 8192


@pytest.mark.slow
def test_converted_model_knows_english(base_model_dir: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model_dir)
    model = AutoModelForCausalLM.from_pretrained(base_model_dir)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        best = model(ids).logits[0, -1].argmax().item()
    assert tokenizer.decode([best]).strip() == "Paris"


def test_local_directory_is_referenced_not_copied(tiny_model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    metadata = prepare_base_model(HubModel(type="hub", name=str(tiny_model_dir)), tmp_path / "downloads", out)
    assert base_model_path(out) == tiny_model_dir
    assert [path.name for path in out.iterdir()] == ["source.json"]
    assert metadata["sha256"] == describe_weights(tiny_model_dir)["sha256"]


@pytest.mark.parametrize(
    ("more", "remedy"), [({}, "Put the former back"), ({"commit": "c"}, "Delete .*models--a, and run base_model again")]
)
def test_weights_that_have_changed_since_are_refused(
    tiny_model_dir: Path, tmp_path: Path, more: dict[str, str], remedy: str
) -> None:
    model, out = tmp_path / "models--a" / "snapshots" / "model", tmp_path / "artifact"
    shutil.copytree(tiny_model_dir, model)
    prepare_base_model(HubModel(type="hub", name=str(model)), tmp_path, out)
    require_same_weights(out)
    source = json.loads((out / "source.json").read_text())
    (out / "source.json").write_text(json.dumps(source | more))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-4000:] = bytes(byte ^ 1 for byte in weights[-4000:])
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(FetchError, match="have changed since base_model was made") as caught:
        require_same_weights(out)
    assert re.search(remedy, str(caught.value))


def test_weights_in_the_artifact_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"name": "m", "path": "."}))
    require_same_weights(tmp_path)


def test_reference_that_has_gone_is_explained(tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"name": "m", "path": str(tmp_path / "gone")}))
    with pytest.raises(FetchError, match=r"was at .*gone and is not any more"):
        base_model_path(tmp_path)


def test_missing_directory_and_pickled_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not exist"):
        prepare_base_model(HubModel(type="hub", name=str(tmp_path / "none")), tmp_path, tmp_path / "out")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"")
    (pickled / "config.json").write_text("{}")
    with pytest.raises(FetchError, match=r"no \*\.safetensors"):
        prepare_base_model(HubModel(type="hub", name=str(pickled)), tmp_path, tmp_path / "out")

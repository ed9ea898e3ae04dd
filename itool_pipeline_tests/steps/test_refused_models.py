"""A model that cannot be used ends the first step, before its weights are read or fetched, and any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, MambaConfig

from itool_pipeline.config import ComputeConfig, LoraConfig, OptimizerConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.engines.factory import make_engine, release_engines
from itool_pipeline.engines.model_config import ModelError
from itool_pipeline.engines.types import EngineSettings, Sampling
from itool_pipeline.steps.prepare import base_model
from itool_pipeline.training.job import FreshAdapter, SftObjective, TrainingJob
from itool_pipeline.training.runner import start_model
from itool_pipeline_tests.steps.by_hand import workspace

TOLD = "MambaForCausalLM cannot be used: it keeps a running state"


@pytest.fixture
def mamba(tmp_path: Path) -> Path:
    """A folder with the config of a Mamba, and one weight that is not its."""
    MambaConfig(architectures=["MambaForCausalLM"]).save_pretrained(tmp_path / "mamba")
    (tmp_path / "mamba" / "tokenizer_config.json").write_text("{}")
    save_file({"other": torch.zeros(1)}, tmp_path / "mamba" / "model.safetensors")
    return tmp_path / "mamba"


def test_the_first_step_refuses_it(tmp_path: Path, mamba: Path) -> None:
    with pytest.raises(ModelError, match=TOLD):
        base_model(workspace(tmp_path, model={"type": "hub", "name": str(mamba)}))


def test_the_first_step_refuses_it_before_its_weights_are_fetched(
    tmp_path: Path, mamba: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str], **_: Any) -> str:
        asked.append(allow_patterns)
        return str(mamba)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match=TOLD):
        base_model(workspace(tmp_path, model={"type": "hub", "name": "state-spaces/mamba-130m-hf"}))
    assert len(asked) == 1
    assert not any(pattern.endswith(".safetensors") for pattern in asked[0])


def test_an_engine_and_a_training_refuse_it(tmp_path: Path, mamba: Path) -> None:
    release_engines()
    settings = EngineSettings(mamba, None, ComputeConfig(), Sampling(), FragmentRule(), end_token=0)
    with pytest.raises(ModelError, match=TOLD):
        make_engine(settings, lambda line: None)
    paths = {name: tmp_path / name for name in ("data", "parts", "out", "result")}
    adapter = FreshAdapter(lora=LoraConfig())
    job = TrainingJob(
        base_model=mamba,
        adapter=adapter,
        objective=SftObjective(),
        optimizer=OptimizerConfig(learning_rate=1e-4),
        **paths,
    )
    with pytest.raises(ModelError, match=rf"{TOLD} .*training"):
        start_model(job)


def test_a_model_that_works_gets_as_far_as_its_weights(tmp_path: Path) -> None:
    LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path / "llama")
    with pytest.raises(Exception, match="safetensors"):
        base_model(workspace(tmp_path, model={"type": "hub", "name": str(tmp_path / "llama")}))

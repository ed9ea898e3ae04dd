"""What the training tests share: a tiny model in fp32 with an adapter that already does something."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from itool_pipeline.config import ComputeConfig, LoraConfig
from itool_pipeline.engines.model import load_model
from itool_pipeline.training.lora import fresh_adapter
from itool_pipeline_tests.training.launched import Trainings

AdaptedModel = Callable[..., Any]


def randomize(model: Any, std: float) -> Any:
    """Give LoRA's B, which starts at zero, random values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=std)
    return model


@pytest.fixture
def adapted_model(tiny_model_dir: Path) -> AdaptedModel:
    """adapted_model(std=0.3, dtype="float32", **lora): a new tiny model with a rank-4 adapter on every call."""

    def make(std: float = 0.3, dtype: Any = "float32", quantization: Any = "none", **lora: Any) -> Any:
        compute = ComputeConfig(device="cpu", dtype=dtype)
        base = load_model(tiny_model_dir, compute, quantization=quantization).model
        model = fresh_adapter(base, LoraConfig(rank=4, **lora), seed=0)
        return randomize(model, std) if std else model

    return make


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Trainings:
    """Trainings in one process and in several, each made once."""
    return Trainings(tmp_path_factory.mktemp("trainings"), tiny_model_dir)

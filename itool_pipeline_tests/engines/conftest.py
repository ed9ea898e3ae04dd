"""What the engine tests share: a tiny model whose distributions are uneven, and plain forward passes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from itool_pipeline.config import ComputeConfig
from itool_pipeline.engines.model import LoadedModel, load_model

PlainLogProbs = Callable[[Sequence[int], Sequence[int]], list[float]]

WEIGHT_SCALE = 6.0
"""Fresh weights are so small that every token is about as likely as any other, whatever it attends to."""


@pytest.fixture(scope="session")
def uneven_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights."""
    directory = tmp_path_factory.mktemp("uneven_model")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(WEIGHT_SCALE)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def plain_model(uneven_model_dir: Path) -> Any:
    """transformers' own model with its eager attention; no code of ours has touched it."""
    return AutoModelForCausalLM.from_pretrained(
        uneven_model_dir, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="session")
def plain_log_probs(plain_model: Any) -> PlainLogProbs:
    """(prompt, continuation) → log-probability of each token of the continuation, by one forward pass of its own."""

    def measure(prompt: Sequence[int], continuation: Sequence[int]) -> list[float]:
        ids = [*prompt, *continuation]
        with torch.no_grad():
            log_probs = plain_model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [float(log_probs[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]

    return measure


@pytest.fixture
def loaded(uneven_model_dir: Path) -> LoadedModel:
    """Loaded anew for every test, because an engine changes its model's attention."""
    return load_model(uneven_model_dir, ComputeConfig(device="cpu", dtype="float32"))

"""Gradient checkpointing against the same training without it: the same bytes, of less that is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from itool_pipeline.config import OptimizerConfig, SimpoLoss
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData
from itool_pipeline.training.job import TrainingError, TrainingResult
from itool_pipeline.training.log_probs import Kernels, TokenLogProbs
from itool_pipeline.training.preference import preference_objective
from itool_pipeline.training.recomputation import use_gradient_checkpointing
from itool_pipeline.training.sft import SFT
from itool_pipeline.training.trainer import Execution, Folders, train_adapter
from itool_pipeline_tests.training.conftest import AdaptedModel

ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 9 + 3 * i)), (100 + i, 200 + i, 2)) for i in range(4))
PAIRS = (TokenPair((), (31, 32), (33,)), TokenPair((31, 32), (34, 35, 36), (34, 37)))
ROWS = tuple(PreferenceRow(f"row{i}", tuple(range(5, 12 + i)), PAIRS) for i in range(4))
CONFIG = OptimizerConfig(learning_rate=0.01, epochs=2, batch_size=3, checkpoint_every=1, micro_batch_tokens=40)


def train(
    model: Any, kind: str, root: Path, checkpointing: bool, kernels: Kernels, progress: Progress = no_progress
) -> TrainingResult:
    data, objective = {
        "sft": (TrainingData(ITEMS, ITEMS[:1]), SFT),
        "preference": (TrainingData(ROWS, ROWS[:1]), preference_objective(SimpoLoss())),
    }[kind]
    how = (CONFIG, 7, Folders(root / "parts", root / "out"), Execution(kernels, checkpointing, progress))
    return train_adapter(model, data, objective, *how)  # type: ignore[type-var]


def adapter_bytes(root: Path) -> bytes:
    return (root / "out" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["sft", "preference"])
@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_the_adapter_is_the_same_to_the_bit(
    adapted_model: AdaptedModel, tmp_path: Path, kind: str, kernels: Kernels
) -> None:
    results = []
    for name, checkpointing in (("on", True), ("off", False)):
        model = adapted_model(dropout=0.3)
        results.append(train(model, kind, tmp_path / name, checkpointing, kernels))
    on, off = results
    assert on == off
    assert adapter_bytes(tmp_path / "on") == adapter_bytes(tmp_path / "off")


def test_a_training_killed_without_it_goes_on_with_it(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    def killed(done: int, total: int) -> None:
        if done == 2:
            raise MemoryError

    train(adapted_model(), "sft", tmp_path / "whole", False, "fused")
    with pytest.raises(MemoryError):
        train(adapted_model(), "sft", tmp_path / "killed", False, "fused", killed)
    train(adapted_model(), "sft", tmp_path / "killed", True, "fused")
    assert adapter_bytes(tmp_path / "killed") == adapter_bytes(tmp_path / "whole")


def test_of_each_layer_the_input_is_kept_and_it_is_computed_again(adapted_model: AdaptedModel) -> None:
    row = pack_row(tuple(range(5, 105)), [(101, 102), (103,)])
    kept, computed = {}, {}
    for checkpointing in (False, True):
        model = adapted_model()
        log_probs = TokenLogProbs(model, "fused", checkpointing)
        layers = model.get_base_model().model.layers
        sizes: list[int] = []
        passes: list[None] = []
        layers[0].mlp.register_forward_pre_hook(lambda *_, seen=passes: seen.append(None))
        weights = {p.data_ptr() for p in model.parameters()}

        def note(tensor: torch.Tensor, own: set[int] = weights, found: list[int] = sizes) -> torch.Tensor:
            found.append(0 if tensor.data_ptr() in own else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            values = log_probs([row], [row.spans[0]])
        values.sum().backward()
        with torch.no_grad():
            log_probs([row], [row.spans[0]])
        kept[checkpointing], computed[checkpointing] = sum(sizes), len(passes)
    assert computed == {False: 2, True: 3}, "again for the gradients, and not where there are none"
    assert kept[True] < kept[False] / 2


def test_the_layers_stay_in_evaluation_mode(adapted_model: AdaptedModel) -> None:
    """The base model's own dropout is never drawn."""
    model = adapted_model()
    TokenLogProbs(model, "plain", True).train()
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    assert len(layers) == 2
    assert not any(layer.training for layer in layers)


def test_a_model_that_does_not_tell_its_layers_is_refused(tiny_model_dir: Path) -> None:
    class Older(PreTrainedModel):  # type: ignore[misc]
        pass

    from transformers import LlamaConfig

    with pytest.raises(TrainingError, match=r"compute\.gradient_checkpointing: Older does not tell its layers"):
        use_gradient_checkpointing(Older(LlamaConfig()))

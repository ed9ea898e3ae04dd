"""The SFT loss against transformers' own with masked labels, and what it depends on."""

from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.token_trie import pack_row
from itool_pipeline.training import log_probs
from itool_pipeline.training.items import SftItem, TrainingData, batches_of_items
from itool_pipeline.training.log_probs import TokenLogProbs
from itool_pipeline.training.lora import trainable_parameters
from itool_pipeline.training.sft import SFT, sft_loss
from itool_pipeline.training.trainer import Folders, train_adapter
from itool_pipeline_tests.training.conftest import AdaptedModel

ITEMS = (
    SftItem("a", (5, 6, 7, 8), (100, 101, 2)),
    SftItem("b", (9, 10), (102, 2)),
    SftItem("c", (11, 12, 13, 14, 15, 16), (103, 104, 105, 106, 2)),
)


def test_loss_and_gradient_equal_transformers_with_prompt_labels_masked(adapted_model: AdaptedModel) -> None:
    model = adapted_model()
    parameters = list(trainable_parameters(model).values())
    width = max(item.length for item in ITEMS)
    ids = torch.zeros(len(ITEMS), width, dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for i, item in enumerate(ITEMS):
        ids[i, : item.length] = torch.tensor(item.prompt + item.response)
        labels[i, len(item.prompt) : item.length] = torch.tensor(item.response)
        mask[i, : item.length] = 1
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    want = torch.autograd.grad(expected, parameters)
    loss = sft_loss(TokenLogProbs(model), ITEMS)
    assert loss.count == 3 + 2 + 5
    torch.testing.assert_close(loss.total / loss.count, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(torch.autograd.grad(loss.total / loss.count, parameters), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_only_response_labels_count(adapted_model: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hidden states held fast, items differ in their labels only."""
    model = adapted_model()
    policy = TokenLogProbs(model)
    item = ITEMS[0]
    row = pack_row(item.prompt, [item.response])
    states = log_probs._hidden_states([row], log_probs.causal_model(model))
    monkeypatch.setattr(log_probs, "_hidden_states", lambda *_: states)
    loss = sft_loss(policy, [item]).total.item()
    for position in range(len(item.prompt)):
        prompt = tuple(t + 50 if i == position else t for i, t in enumerate(item.prompt))
        assert sft_loss(policy, [replace(item, prompt=prompt)]).total.item() == loss
    for position in range(len(item.response)):
        response = tuple(t + 50 if i == position else t for i, t in enumerate(item.response))
        assert sft_loss(policy, [replace(item, response=response)]).total.item() != loss


@pytest.mark.parametrize(("prompt", "response"), [((), (1,)), ((1,), ())])
def test_empty_parts_are_refused(prompt: tuple[int, ...], response: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="x: an example needs a prompt and a response"):
        SftItem("x", prompt, response)


def test_steps_take_batches_in_order() -> None:
    steps = batches_of_items(ITEMS, 2)
    assert [[item.name for item in step] for step in steps] == [["a", "b"], ["c"]]


def test_training_learns_the_responses(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model(std=0)
    config = OptimizerConfig(learning_rate=0.02, epochs=12, batch_size=3)
    folders = Folders(tmp_path / "parts", tmp_path / "out")
    result = train_adapter(model, TrainingData(ITEMS, ITEMS), SFT, config, 0, folders)
    assert result.validation[0].step == 0
    assert result.validation[0].loss == pytest.approx(log(49152), rel=0.05)  # a random model
    assert min(v.loss for v in result.validation) < result.validation[0].loss - 0.4
    assert (result.steps, result.examples) == (12, 3)

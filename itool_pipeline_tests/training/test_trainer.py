"""The loop against a plain one written out here, and kills that must leave no trace."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.training.items import SftItem, TrainingData, batches_of_items
from itool_pipeline.training.job import TrainingError, TrainingResult, candidate_path, candidate_steps
from itool_pipeline.training.log_probs import LogProbs
from itool_pipeline.training.lora import trainable_parameters
from itool_pipeline.training.schedule import learning_rate_factor
from itool_pipeline.training.sft import SFT
from itool_pipeline.training.trainer import Execution, Folders, Loss, Objective, train_adapter
from itool_pipeline_tests.training.conftest import AdaptedModel

ITEMS = tuple(SftItem(f"item{i}", tuple(range(5, 8 + i)), (100 + i, 200 + i, 2)) for i in range(5))
HELD_OUT = (SftItem("held_out", (5, 6, 7), (104, 204, 2)),)
CONFIG = OptimizerConfig(learning_rate=0.01, epochs=3, batch_size=2, checkpoint_every=2, micro_batch_tokens=16)


class Killed(Exception):
    pass


def kill_after(step: int) -> Progress:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return progress


def sft(model: Any, root: Path, config: OptimizerConfig = CONFIG, progress: Progress = no_progress) -> TrainingResult:
    data = TrainingData(ITEMS, HELD_OUT)
    return train_adapter(
        model, data, SFT, config, 7, Folders(root / "parts", root / "out"), Execution(progress=progress)
    )


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "adapter_model.safetensors")


def plain_training(model: Any, order: Sequence[Sequence[SftItem]], config: OptimizerConfig) -> list[float]:
    """Whole batches, transformers' forward pass, unfused AdamW; returns the steps' losses."""
    parameters = list(trainable_parameters(model).values())
    optimizer = torch.optim.AdamW(parameters, weight_decay=config.weight_decay, fused=False, foreach=False)
    losses = []
    for step, items in enumerate(order):
        total = torch.zeros(())
        for item in items:
            ids = torch.tensor([item.prompt + item.response])
            log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
            total = total - log_probs[len(item.prompt) - 1 :].sum()
        loss = total / sum(len(item.response) for item in items)
        warmup = math.ceil(len(order) * config.warmup_ratio)
        factor = learning_rate_factor(step, step + 1, len(order), warmup)
        optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_steps_equal_a_plain_loop(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model()
    seen: list[list[SftItem]] = []

    def remember(items: Sequence[SftItem], size: int) -> list[list[SftItem]]:
        steps = SFT.steps(items, size)
        seen.extend(steps)
        return steps

    config = OptimizerConfig(learning_rate=0.01, epochs=2, batch_size=2, micro_batch_tokens=16, weight_decay=0.1)
    recorder = replace(SFT, steps=remember)
    data = TrainingData(ITEMS)
    result = train_adapter(model, data, recorder, config, 7, Folders(tmp_path / "parts", tmp_path / "out"))
    plain = adapted_model()
    expected = plain_training(plain, seen[3:], config)  # the first three were only counted
    assert list(result.losses) == pytest.approx(expected, rel=1e-4)
    for a, b in zip(trainable_parameters(model).values(), trainable_parameters(plain).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert [sorted(i.name for step in seen[n : n + 3] for i in step) for n in (3, 6)] == [[i.name for i in ITEMS]] * 2
    assert seen[3:6] != seen[6:9]


def test_both_kernels_train_the_same_adapter(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    data, results = TrainingData(ITEMS, HELD_OUT), []
    for kernels in ("fused", "plain"):
        folders = Folders(tmp_path / kernels / "parts", tmp_path / kernels / "out")
        results.append(train_adapter(adapted_model(), data, SFT, CONFIG, 7, folders, Execution(kernels)))
    fused, plain = results
    assert fused.losses != plain.losses or fused.validation != plain.validation, "they are not the same code"
    assert list(fused.losses) == pytest.approx(list(plain.losses), rel=1e-3)
    want, got = (weights(tmp_path / kernels / "out") for kernels in ("plain", "fused"))
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("step", [1, 3, 4, 9])
def test_a_killed_run_ends_like_an_undisturbed_one(
    adapted_model: AdaptedModel, tmp_path: Path, step: int, dropout: float
) -> None:
    undisturbed = sft(adapted_model(dropout=dropout), tmp_path / "undisturbed")
    root = tmp_path / "killed"
    with pytest.raises(Killed):
        sft(adapted_model(dropout=dropout), root, progress=kill_after(step))
    (root / "parts" / ".tmp" / "step_99999999.0" / "step_99999999").mkdir(parents=True)  # killed while writing
    torch.rand(step)  # the state of the global generator must not matter
    resumed: list[int] = []
    result = sft(adapted_model(dropout=dropout), root, progress=lambda done, total: resumed.append(done))
    assert result == undisturbed
    assert resumed == list(range(step - step % 2 + 1, 10)) if step < 9 else resumed == []
    want, got = weights(tmp_path / "undisturbed" / "out"), weights(root / "out")
    assert want.keys() == got.keys()
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_seeds_decide_the_result(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    data = TrainingData(ITEMS)
    results = [
        train_adapter(adapted_model(), data, SFT, CONFIG, seed, Folders(tmp_path / f"parts{i}", tmp_path / f"out{i}"))
        for i, seed in enumerate([1, 1, 2])
    ]
    assert results[0] == results[1]
    assert results[0].losses != results[2].losses


def test_dropout_is_drawn_anew_at_each_step_and_the_same_again(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    drawn: list[list[float]] = []

    def once(root: Path) -> None:
        model = adapted_model()
        drawn.append([])

        def loss(_: LogProbs, items: Sequence[SftItem]) -> Loss:
            drawn[-1].append(torch.rand(()).item())
            return Loss(sum(p.square().sum() for p in trainable_parameters(model).values()), len(items))

        objective = Objective("by hand", loss, lambda items, size: [[item] for item in items])
        train_adapter(model, TrainingData(ITEMS), objective, CONFIG, 7, Folders(root / "parts", root / "out"))

    once(tmp_path / "one")
    torch.rand(3)  # the state of the global generator must not matter
    once(tmp_path / "two")
    assert len(set(drawn[0])) == len(drawn[0]) == 15
    assert drawn[0] == drawn[1]


def test_checkpoints_hold_no_pickle_and_replace_each_other(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    sft(adapted_model(), tmp_path)
    (checkpoint,) = (path for path in (tmp_path / "parts").iterdir() if not path.name.startswith("."))
    assert checkpoint.name == "step_00000009"
    assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json"}
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 9


def test_the_best_on_the_validation_set_is_kept(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    """Training lowers the weights' mean without end; the held-out loss wants it two steps below the start."""
    model = adapted_model()
    parameters = list(trainable_parameters(model).values())

    def mean() -> torch.Tensor:
        return torch.cat([p.flatten() for p in parameters]).mean()

    target = mean().item() - 2 * CONFIG.learning_rate

    def loss(_: LogProbs, items: Sequence[SftItem]) -> Loss:
        value = (mean() - target).square() if items[0].name == "held_out" else mean()
        return Loss(value * len(items), len(items))

    data = TrainingData(ITEMS, HELD_OUT)
    recorder = Objective("by hand", loss, batches_of_items)
    often = CONFIG.model_copy(update={"validate_every": 2})
    result = train_adapter(model, data, recorder, often, 7, Folders(tmp_path / "parts", tmp_path / "out"))
    assert [v.step for v in result.validation] == [0, 2, 3, 4, 6, 8, 9]
    assert result.best_step == 2
    best = torch.cat([tensor.flatten() for tensor in weights(tmp_path / "out").values()]).mean().item()
    # Adam's first steps have the size of the learning rate; the second follows the cosine over nine.
    moved = CONFIG.learning_rate * (1 + 0.5 * (1 + math.cos(0)))
    assert best == pytest.approx(target + 2 * CONFIG.learning_rate - moved, abs=1e-4)
    assert mean().item() == pytest.approx(best, abs=1e-6)


def test_the_adapter_of_every_validation_is_there_if_asked_for(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    """Killed in between too; the best of them is what is kept."""
    data, candidates = TrainingData(ITEMS, HELD_OUT), tmp_path / "candidates"
    where = (SFT, CONFIG, 7, Folders(tmp_path / "parts", tmp_path / "out", candidates))
    with pytest.raises(Killed):
        train_adapter(adapted_model(), data, *where, Execution(progress=kill_after(5)))
    result = train_adapter(adapted_model(), data, *where)
    validated = [v.step for v in result.validation if v.step > 0]
    assert candidate_steps(candidates) == validated == [3, 6, 9]
    alone = sft(adapted_model(), tmp_path / "alone")
    assert alone == result
    kept = weights(candidate_path(candidates, result.best_step))
    assert all(torch.equal(value, kept[name]) for name, value in weights(tmp_path / "alone" / "out").items())


def test_without_validation_the_last_is_kept(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    result = train_adapter(
        adapted_model(), TrainingData(ITEMS), SFT, CONFIG, 7, Folders(tmp_path / "parts", tmp_path / "out")
    )
    assert (result.best_step, result.validation) == (9, ())


def test_a_loss_that_is_not_finite_stops_with_step_and_examples(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    model = adapted_model()
    calls: list[int] = []

    def loss(_: LogProbs, items: Sequence[SftItem]) -> Loss:
        calls.append(len(items))
        total = sum(p.sum() for p in trainable_parameters(model).values())
        return Loss(total * (math.nan if len(calls) > 1 else 1.0), len(items))

    objective = Objective("by hand", loss, lambda items, size: [[item] for item in items])
    data = TrainingData(ITEMS[:1])
    with pytest.raises(TrainingError, match=r"step 2 of 3: loss nan, .* examples item0"):
        train_adapter(model, data, objective, CONFIG, 7, Folders(tmp_path / "parts", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_another_training_are_refused(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    sft(adapted_model(), tmp_path)
    with pytest.raises(TrainingError, match="another training"):
        sft(adapted_model(), tmp_path, CONFIG.model_copy(update={"learning_rate": 0.02}))
    others = (replace(ITEMS[0], response=(9, 2)), *ITEMS[1:])
    where = (CONFIG, 7, Folders(tmp_path / "parts", tmp_path / "out"))
    with pytest.raises(TrainingError, match="another training"):  # of the same names, with other tokens
        train_adapter(adapted_model(), TrainingData(others, HELD_OUT), SFT, *where)
    with pytest.raises(TrainingError, match="another training"):  # with another loss
        train_adapter(adapted_model(), TrainingData(ITEMS, HELD_OUT), replace(SFT, name="other"), *where)


def test_nothing_to_train_on(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training set is empty"):
        train_adapter(
            adapted_model(), TrainingData[SftItem](()), SFT, CONFIG, 7, Folders(tmp_path / "parts", tmp_path / "out")
        )


def test_every_step_and_every_validation_is_told_as_it_comes(adapted_model: AdaptedModel, tmp_path: Path) -> None:
    told: list[tuple[str, int, Mapping[str, float]]] = []
    config = CONFIG.model_copy(update={"validate_every": 4})

    def trained(root: Path, progress: Progress = no_progress) -> TrainingResult:
        execution = Execution(
            progress=progress, metrics=lambda kind, step, values: told.append((kind, step, {**values}))
        )
        folders = Folders(root / "parts", root / "out")
        return train_adapter(adapted_model(), TrainingData(ITEMS, HELD_OUT), SFT, config, 7, folders, execution)

    result = trained(tmp_path / "whole")
    whole = list(told)
    steps = [(step, values["loss"]) for kind, step, values in whole if kind == "train"]
    assert steps == list(enumerate(result.losses, start=1))
    validated = [(step, values["loss"]) for kind, step, values in whole if kind == "validation"]
    assert validated == [(v.step, v.loss) for v in result.validation]
    assert [kind for kind, step, _ in whole if step == 4] == ["train", "validation"]
    warmup = math.ceil(result.steps * config.warmup_ratio)
    rates = [config.learning_rate * learning_rate_factor(s, s + 1, result.steps, warmup) for s in range(result.steps)]
    assert [values["learning_rate"] for kind, _, values in whole if kind == "train"] == rates
    # Of a killed training the steps after its last checkpoint are told again, with the same figures.
    told.clear()
    with pytest.raises(Killed):
        trained(tmp_path / "killed", kill_after(5))
    before = len(told)
    trained(tmp_path / "killed")
    assert told[:before] == whole[:before]
    again = told[before:]
    assert again[0] == whole[before - 1 :][0], "step 5 came after the checkpoint at step 4"
    assert again == whole[before - 1 :]

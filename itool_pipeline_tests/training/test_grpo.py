"""GRPO by TRL's trainer on a tiny random model: what it trains, on what rewards, and when it stops."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from itool_pipeline.config import ComputeConfig, Grpo, LoraConfig, OptimizerConfig, SamplingConfig
from itool_pipeline.core.types import no_metrics, no_progress
from itool_pipeline.engines.model import load_model, load_tokenizer
from itool_pipeline.training import grpo, trl_extra
from itool_pipeline.training.grpo import RewardOf, train_by_grpo
from itool_pipeline.training.job import ContinuedAdapter, FreshAdapter, GrpoJob, GrpoResult, TrainingError
from itool_pipeline.training.lora import save_adapter
from itool_pipeline.training.schedule import learning_rate_factor
from itool_pipeline_tests.training.conftest import AdaptedModel

pytest.importorskip("trl", reason="TRL is an extra")

PROMPTS = {f"p{i}": tuple(range(10 + i, 15 + 3 * i)) for i in range(3)}
"""Of different lengths, so that some are padded."""
LONGEST = 6


def job(directory: Path, out: Path, budget: int = 60, **over: Any) -> GrpoJob:
    content: dict[str, Any] = {
        "compute": ComputeConfig(device="cpu", dtype="float32"),
        "adapter": FreshAdapter(lora=LoraConfig(rank=4), seed=1),
        "loss": Grpo(type="grpo", generations=4),
        "drawing": SamplingConfig(type="sampling", temperature=1.0, max_response_tokens=LONGEST),
        "end_token": 2,
        "optimizer": OptimizerConfig(learning_rate=1e-2, batch_size=8, warmup_ratio=0.0, micro_batch_tokens=64),
        "seed": 3,
        **over,
    }
    return GrpoJob(base_model=directory, budget=budget, out=out, **content)


def even(name: str, token_ids: tuple[int, ...], finished: bool) -> float:
    """The share of tokens with an even number."""
    return sum(token % 2 == 0 for token in token_ids) / max(1, len(token_ids))


def trained(made: GrpoJob, reward: RewardOf = even) -> tuple[GrpoResult, dict[str, Tensor]]:
    result = train_by_grpo(made, PROMPTS, reward)
    assert {file.name for file in made.out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    return result, load_file(made.out / "adapter_model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_adapter_changes_and_the_same_seed_gives_the_same(tiny_model_dir: Path, tmp_path: Path) -> None:
    result, weights = trained(job(tiny_model_dir, tmp_path / "one"))
    assert any(w.any() for name, w in weights.items() if "lora_B" in name), "it began at zero"
    assert {w.shape[0] for name, w in weights.items() if "lora_A" in name} == {4}
    assert {w.dtype for w in weights.values()} == {torch.float32}
    again, same_weights = trained(job(tiny_model_dir, tmp_path / "again"))
    assert (again, same(weights, same_weights)) == (result, True)
    _, others = trained(job(tiny_model_dir, tmp_path / "other", seed=4))
    assert not same(weights, others)
    load_model(tiny_model_dir, ComputeConfig(device="cpu", dtype="float32"), adapter=tmp_path / "one", merge=True)


def test_each_completion_is_rewarded_with_its_own_prompt(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model was given and said, noted where transformers generates, is what the reward function is handed."""
    from transformers import LlamaForCausalLM

    said: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    plain = LlamaForCausalLM.generate

    def noting(self: Any, input_ids: Tensor, attention_mask: Tensor, **rest: Any) -> Tensor:
        out: Tensor = plain(self, input_ids=input_ids, attention_mask=attention_mask, **rest)
        for ids, mask, whole in zip(input_ids, attention_mask, out, strict=True):
            said.append((tuple(ids[mask.bool()].tolist()), tuple(whole[len(ids) :].tolist())))
        return out

    monkeypatch.setattr(LlamaForCausalLM, "generate", noting)
    rewarded: list[tuple[str, tuple[int, ...], bool]] = []

    def reward(name: str, token_ids: tuple[int, ...], finished: bool) -> float:
        rewarded.append((name, token_ids, finished))
        return 1.0 if name == "p0" else even(name, token_ids, finished)

    ends = set(range(0, 49_152, 7))  # so many that a random model says one now and then
    monkeypatch.setattr(grpo, "end_tokens_of", lambda *_: frozenset(ends))
    result, _ = trained(job(tiny_model_dir, tmp_path / "out", budget=100), reward)
    ends |= {2, load_tokenizer(tiny_model_dir).eos_token_id}
    assert len(said) == len(rewarded) > 8
    tokens = 0
    for (prompt, completion), (name, token_ids, finished) in zip(said, rewarded, strict=True):
        assert prompt == PROMPTS[name]
        length = next((at for at, token in enumerate(completion) if token in ends), LONGEST)
        assert (token_ids, finished) == (completion[:length], length < len(completion) and completion[length] in ends)
        tokens += length + finished
    assert {finished for *_, finished in rewarded} == {True, False}
    assert result.generated_tokens == tokens
    groups = [rewarded[at : at + 4] for at in range(0, len(rewarded), 4)]
    assert all(len({name for name, *_ in group}) == 1 for group in groups)
    assert any(name == "p0" for name, *_ in rewarded)
    assert max(result.equal_rewards) > 0, "all completions of p0 have one reward"


@pytest.mark.parametrize(("budget", "steps"), [(1, 1), (40, 1), (60, 2)])
def test_it_ends_with_the_step_that_reaches_the_budget(
    tiny_model_dir: Path, tmp_path: Path, budget: int, steps: int
) -> None:
    """A random model says one of 49,152 tokens, and hardly ever the end: 8 completions of 6 tokens in a step."""
    told: list[tuple[int, int]] = []
    figures: list[tuple[str, int, float, float]] = []
    made = job(tiny_model_dir, tmp_path / "out", budget)

    def metrics(kind: str, step: int, values: Mapping[str, float]) -> None:
        figures.append((kind, step, values["loss"], values["reward"]))

    result = train_by_grpo(made, PROMPTS, even, lambda done, total: told.append((done, total)), metrics)
    found = zip(result.losses, result.rewards, strict=True)
    assert figures == [("train", step, *figure) for step, figure in enumerate(found, start=1)]
    assert result.generated_tokens == 8 * LONGEST * steps
    assert len(result.losses) == len(result.rewards) == len(result.equal_rewards) == steps
    assert told == [(min(budget, 48 * (step + 1)), budget) for step in range(steps)]


def test_the_adapter_before_is_gone_on_with(tiny_model_dir: Path, tmp_path: Path, adapted_model: AdaptedModel) -> None:
    """With equal rewards nothing is learned, so what comes out is what went in, also where a reference is beside it."""
    save_adapter(adapted_model(), tmp_path / "before")
    before = load_file(tmp_path / "before" / "adapter_model.safetensors")
    go_on = ContinuedAdapter(directory=tmp_path / "before")
    for beta, quantization in ((0.0, "none"), (0.1, "none"), (0.0, "nf4")):
        over = {"adapter": go_on, "quantization": quantization, "loss": Grpo(type="grpo", generations=4, beta=beta)}
        made = job(tiny_model_dir, tmp_path / "out", 1, **over)
        result, after = trained(made, lambda *_: 1.0)
        assert (result.rewards, result.equal_rewards) == ((1.0,), (1.0,))
        for name, weights in before.items():
            torch.testing.assert_close(after[name], weights, rtol=0, atol=1e-6 if beta else 0)
    assert (tmp_path / "out" / "adapter_config.json").read_text() == (
        tmp_path / "before" / "adapter_config.json"
    ).read_text()


def test_what_is_rewarded_is_said_more_often(tiny_model_dir: Path, tmp_path: Path) -> None:
    drawing = SamplingConfig(type="sampling", temperature=1.0, top_k=4, max_response_tokens=LONGEST)
    result, _ = trained(job(tiny_model_dir, tmp_path / "out", 15 * 48, drawing=drawing))
    assert np.mean(result.rewards[-3:]) > np.mean(result.rewards[:3]) + 0.2


def test_fewer_prompts_than_a_step_has_groups(tiny_model_dir: Path, tmp_path: Path) -> None:
    result = train_by_grpo(job(tiny_model_dir, tmp_path / "out", 30), {"p": (5, 6)}, even)
    assert (result.generated_tokens, result.examples) == (2 * 4 * LONGEST, 1)


def test_other_random_numbers_go_on(tiny_model_dir: Path, tmp_path: Path) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = drawn(), drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = drawn()
    trained(job(tiny_model_dir, tmp_path / "out", 1))
    assert (first, drawn()) == expected


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_loss_that_is_not_finite_ends_it(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from trl import GRPOTrainer

    plain = GRPOTrainer.log
    broken = {name: float("nan")}
    monkeypatch.setattr(GRPOTrainer, "log", lambda self, logs, *rest: plain(self, {**logs, **broken}, *rest))
    made = job(tiny_model_dir, tmp_path / "out")
    with pytest.raises(TrainingError, match=r"GRPO step 1: loss .*nan.* lower the learning rate"):
        train_by_grpo(made, PROMPTS, even)
    assert not made.out.exists()


def test_nothing_to_train_on(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no prompt"):
        train_by_grpo(job(tiny_model_dir, tmp_path / "out"), {}, even)


def test_without_trl_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl_extra, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"TRL is not installed here: .*pip install .*-e '\.\[grpo\]'"):
        train_by_grpo(job(tmp_path, tmp_path / "out"), PROMPTS, even)


def test_trl_is_imported_where_it_is_used() -> None:
    at_the_top = [ast.unparse(node) for node in ast.parse(Path(grpo.__file__).read_text()).body]
    assert not [line for line in at_the_top if line.startswith(("import trl", "from trl", "from datasets"))]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
def test_the_schedule_is_that_of_our_own_training(tmp_path: Path, warmup: float) -> None:
    """Steps of 7 tokens each, twenty of them: by tokens the rates are what they are by steps."""
    optimizer = OptimizerConfig(learning_rate=0.5, batch_size=4, warmup_ratio=warmup)
    run = grpo._Run(job(tmp_path, tmp_path / "out", 140, optimizer=optimizer), even, no_progress, no_metrics)
    rates = []
    for _ in range(20):
        run.reward(["p0"], [[5] * 7])
        groups = [{"lr": 9.0}]
        run.on_pre_optimizer_step(None, None, None, optimizer=SimpleNamespace(param_groups=groups))
        rates.append(groups[0]["lr"])
    by_steps = [learning_rate_factor(step, step + 1, 20, round(20 * warmup)) for step in range(20)]
    assert rates == pytest.approx([0.5 * factor for factor in by_steps])

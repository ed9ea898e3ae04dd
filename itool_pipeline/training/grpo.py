"""GRPO (Shao et al. 2024) of our adapter by TRL's own trainer, until so many tokens were generated.

TRL's defaults are kept: the loss by tokens (DAPO), rewards scaled within each group, one update for each completion.
Ours are what is trained and from where, on which token ids, how completions are drawn and rewarded, the optimizer's
settings, and when it stops.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from itool_pipeline.core.types import Metrics, Progress, no_metrics, no_progress
from itool_pipeline.engines.model import load_tokenizer
from itool_pipeline.engines.model_config import end_tokens_of
from itool_pipeline.training.job import GrpoJob, GrpoResult, TrainingError
from itool_pipeline.training.lora import save_adapter, trainable_parameters
from itool_pipeline.training.runner import start_model
from itool_pipeline.training.schedule import learning_rate_factor
from itool_pipeline.training.trl_extra import require_trl

RewardOf = Callable[[str, tuple[int, ...], bool], float]
"""(name of the prompt, token ids of its completion without the end, whether it ended by itself) → its reward."""


def train_by_grpo(
    job: GrpoJob,
    prompts: Mapping[str, tuple[int, ...]],
    reward: RewardOf,
    progress: Progress = no_progress,
    metrics: Metrics = no_metrics,
) -> GrpoResult:
    """Train the job's adapter on `prompts`, name → token ids, and write it to `job.out`, whole or not at all.

    It goes round the prompts, `batch_size` completions in a step, and ends with the step in which `job.budget` is
    reached. `progress` is called with (tokens generated, budget), and `metrics` told of
    `train` after each step. On one machine the same job gives the same adapter.
    Nothing is kept on the way: a training that was killed begins again.

    Raises TrainingError when TRL is not installed, when there is no prompt, or when a loss is not finite.
    """
    require_trl()
    if not prompts:
        raise TrainingError("there is nothing to train on: there is no prompt")
    model = start_model(job)
    run = _Run(job, reward, progress, metrics)
    with TemporaryDirectory(prefix="trl_") as scratch, _own_randomness(model.device):
        _trainer(job, model, prompts, run, scratch).train()
    model.eval()
    save_adapter(model, job.out)
    return GrpoResult(
        losses=tuple(run.losses),
        rewards=tuple(run.rewards),
        equal_rewards=tuple(run.equal_rewards),
        generated_tokens=run.generated,
        examples=len(prompts),
        trainable_parameters=sum(p.numel() for p in trainable_parameters(model).values()),
    )


class _Run(TrainerCallback):  # type: ignore[misc]
    """Rewards completions, counts their tokens, and by these sets the learning rate and stops the trainer."""

    def __init__(self, job: GrpoJob, reward: RewardOf, progress: Progress, metrics: Metrics) -> None:
        self.ends: frozenset[int] = frozenset()
        self.generated = self.before_step = 0
        self.losses: list[float] = []
        self.rewards: list[float] = []
        self.equal_rewards: list[float] = []
        self._job, self._reward, self._progress, self._metrics = job, reward, progress, metrics
        self._rate = 0.0

    def reward(self, prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        """TRL's reward function, called once a step with all of its completions; the prompts are their names."""
        self.before_step = self.generated
        self.generated += sum(map(len, completion_ids))
        return [self._reward_of(name, ids) for name, ids in zip(prompts, completion_ids, strict=True)]

    def _reward_of(self, name: str, ids: list[int]) -> float:
        finished = ids[-1] in self.ends
        return self._reward(name, tuple(ids[:-1] if finished else ids), finished)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, optimizer: Any, **_: Any) -> None:
        settings, budget = self._job.optimizer, self._job.budget
        factor = learning_rate_factor(self.before_step, self.generated, budget, budget * settings.warmup_ratio)
        self._rate = settings.learning_rate * factor
        for group in optimizer.param_groups:
            group["lr"] = self._rate

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = self.generated >= self._job.budget
        self._progress(min(self.generated, self._job.budget), self._job.budget)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" not in logs:  # the summary at the end
            return
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            raise TrainingError(
                f"GRPO step {state.global_step}: loss {logs['loss']}, gradient norm {logs['grad_norm']}; "
                "lower the learning rate"
            )
        self.losses.append(logs["loss"])
        self.rewards.append(logs["reward"])
        self.equal_rewards.append(logs["frac_reward_zero_std"])
        figures = {"loss": logs["loss"], "reward": logs["reward"], "equal_rewards": logs["frac_reward_zero_std"]}
        own = {"learning_rate": self._rate, "gradient_norm": logs["grad_norm"], "generated_tokens": self.generated}
        self._metrics("train", state.global_step, {**figures, **own})


def _trainer(job: GrpoJob, model: Any, prompts: Mapping[str, tuple[int, ...]], run: _Run, scratch: str) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _tokenize_prompts(self, names: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
            # Text would have other tokens: our prompts spell control tokens out.
            return [list(prompts[name]) for name in names], None, {}

        def _send_telemetry(self) -> None:
            pass

    tokenizer = load_tokenizer(job.base_model)
    configs = (model.generation_config, model.config)
    own_ends = end_tokens_of(configs, model.get_input_embeddings().num_embeddings)
    run.ends = own_ends | {job.end_token, tokenizer.eos_token_id}
    model.generation_config.eos_token_id = sorted(run.ends)
    start = {name: p.detach().clone() for name, p in trainable_parameters(model).items()}
    trainer = Trainer(
        model,
        run.reward,
        GRPOConfig(**_settings(job, model, prompts, scratch)),
        Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=tokenizer,
        callbacks=[run],
    )
    trainer.remove_callback(PrinterCallback)
    # Of a quantised model TRL rounds the adapter to bf16, in which small steps are lost.
    for name, parameter in trainable_parameters(model).items():
        parameter.data = start[name]
    return trainer


def _settings(job: GrpoJob, model: Any, prompts: Mapping[str, tuple[int, ...]], scratch: str) -> dict[str, Any]:
    optimizer, drawing, group = job.optimizer, job.drawing, job.loss.generations
    # TRL drops the prompts that do not fill a batch, which would be all of too few.
    batch = group * min(optimizer.batch_size // group, len(prompts))
    longest = max(map(len, prompts.values())) + drawing.max_response_tokens
    fitting = max(1, optimizer.micro_batch_tokens // longest)
    together = max(size for size in range(1, batch + 1) if batch % size == 0 and size <= fitting)
    on_cpu = model.device.type == "cpu"
    return {
        "num_generations": group,
        "beta": job.loss.beta,
        "temperature": drawing.temperature,
        "top_k": drawing.top_k,
        "top_p": drawing.top_p,
        "max_completion_length": drawing.max_response_tokens,
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": batch // together,
        "max_steps": math.ceil(job.budget / batch),  # no completion is without a token
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": optimizer.weight_decay,
        "max_grad_norm": optimizer.max_grad_norm,
        "gradient_checkpointing": job.compute.gradient_checkpointing,
        "bf16": False,  # no autocast: the base has its dtype, and the adapter is fp32
        "seed": job.seed,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "output_dir": scratch,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }


@contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """TRL seeds all random numbers of the process; afterwards they go on as if it had not."""
    python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)

"""One training loop for SFT and preference optimisation of a LoRA adapter (App. B.1).

AdamW, cosine schedule with warm-up, gradient accumulation, the best checkpoint on the validation set. A run that was
killed goes on from its last checkpoint and ends with the same weights, bit for bit on the same machine, because
order and dropout depend on (seed, epoch, step) only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.types import Progress, no_progress
from itool_pipeline.errors import ActionableError
from itool_pipeline.training.checkpoint import (
    TrainingState,
    Validation,
    copies,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from itool_pipeline.training.lora import save_adapter, trainable_parameters
from itool_pipeline.training.packing import micro_batches


class TrainingError(ActionableError):
    """Training cannot start or go on. The message says at which step, with which examples, and what to do."""


class Item(Protocol):
    @property
    def name(self) -> str:
        """The example's id, for messages."""
        ...


T = TypeVar("T", bound=Item)


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums over a micro-batch. A step's loss is the sum of totals over the sum of counts.

    total  scalar with gradients
    count  what the loss is a mean over: response tokens, or pairs
    sums   further figures to report, each divided by the count in the end
    """

    total: Tensor
    count: int
    sums: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective(Generic[T]):
    """What is minimised, and how items are grouped.

    loss    the loss of items that fit into one pass
    length  tokens of an item in a pass
    steps   (items in the epoch's order, batch size) → the items of each optimizer step; how many steps there are
            must not depend on the order
    """

    loss: Callable[[Sequence[T]], Loss]
    length: Callable[[T], int]
    steps: Callable[[Sequence[T], int], list[list[T]]]


@dataclass(frozen=True)
class TrainingData(Generic[T]):
    """`validation` may be empty: the last checkpoint is then the best."""

    train: Sequence[T]
    validation: Sequence[T] = ()


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """losses: one for each step, over its own items; validation: at step 0 (the start), `validate_every`, epoch ends;
    best_step: the step whose weights were kept; examples: items in the training set; trainable_parameters: scalars.
    """

    losses: tuple[float, ...]
    validation: tuple[Validation, ...]
    best_step: int
    steps: int
    examples: int
    trainable_parameters: int


def learning_rate_factor(step: int, total: int, warmup_ratio: float) -> float:
    """What the learning rate of step 0, 1, … total - 1 is multiplied with: linear up to 1, then half a cosine to 0."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def train(
    model: Any,
    data: TrainingData[T],
    objective: Objective[T],
    config: OptimizerConfig,
    seed: int,
    parts: Path,
    out: Path,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train the adapter of peft's `model`; leave its best weights in the model and, as an adapter, in `out`.

    parts     directory of resumable checkpoints of this very training; removing it is left to the caller
    progress  called with (optimizer steps done, total) after each step

    Raises TrainingError when there is nothing to train on, when the loss or its gradient stops being finite, or when
    `parts` belongs to another training.
    """
    if not data.train:
        raise TrainingError("there is nothing to train on: the training set is empty")
    run = _Run(model, data, objective, config, seed, parts)
    run.start()
    for step in range(run.state.step, run.total):
        run.take_step(step)
        progress(run.state.step, run.total)
    restore(run.parameters, run.best)
    model.eval()
    save_adapter(model, out)
    state = run.state
    return TrainingResult(
        losses=tuple(state.losses),
        validation=tuple(state.validation),
        best_step=state.best_step,
        steps=run.total,
        examples=len(data.train),
        trainable_parameters=sum(p.numel() for p in run.parameters.values()),
    )


class _Run(Generic[T]):
    """The moving parts of one training."""

    def __init__(
        self,
        model: Any,
        data: TrainingData[T],
        objective: Objective[T],
        config: OptimizerConfig,
        seed: int,
        parts: Path,
    ) -> None:
        self.model, self.data, self.objective, self.config = model, data, objective, config
        self.seed, self.parts = seed, parts
        self.parameters: dict[str, nn.Parameter] = trainable_parameters(model)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.epoch_steps = len(objective.steps(data.train, config.batch_size))
        self.total = self.epoch_steps * config.epochs
        self.state = TrainingState(signature=self._signature())
        self.best: dict[str, Tensor] = {}
        self.order: tuple[int, list[list[T]]] = (-1, [])

    def _signature(self) -> str:
        """What must be alike for a checkpoint to be continued."""
        shapes = [[name, *p.shape] for name, p in self.parameters.items()]
        items = [[item.name for item in group] for group in (self.data.train, self.data.validation)]
        return json.dumps([self.config.model_dump(), self.seed, self.total, items, shapes], sort_keys=True)

    def start(self) -> None:
        """Take up the last checkpoint, or measure the validation loss before the first step."""
        loaded = load_checkpoint(self.parts, self.parameters, self.optimizer)
        if loaded is None:
            self._validate()
            return
        state, self.best = loaded
        if state.signature != self.state.signature:
            raise TrainingError(f"{self.parts} holds checkpoints of another training: remove it")
        self.state = state

    def take_step(self, step: int) -> None:
        """Optimizer step number `step`, counted from 0, with validation and checkpoint where they are due."""
        items = self._items(step)
        loss = self._accumulate(items, step)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            names = ", ".join(item.name for item in items)
            raise TrainingError(
                f"step {step + 1} of {self.total}: loss {loss}, gradient norm {float(norm)} on the examples {names}; "
                "lower the learning rate or remove the example"
            )
        factor = learning_rate_factor(step, self.total, self.config.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step = step + 1
        self.state.losses.append(loss)
        self._keep()

    def _items(self, step: int) -> list[T]:
        epoch, index = divmod(step, self.epoch_steps)
        if self.order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data.train))
            shuffled = [self.data.train[i] for i in order]
            self.order = (epoch, self.objective.steps(shuffled, self.config.batch_size))
        return self.order[1][index]

    def _accumulate(self, items: Sequence[T], step: int) -> float:
        """Gradients of the mean loss over `items`, pass by pass; returns that mean."""
        self.model.train()
        total, count = 0.0, 0
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(np.random.default_rng([self.seed, step]).integers(2**62)))
            for group in micro_batches(items, self.objective.length, self.config.micro_batch_tokens):
                loss = self.objective.loss(group)
                loss.total.backward()
                total += float(loss.total.detach())
                count += loss.count
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.div_(count)
        return total / count

    def _keep(self) -> None:
        state = self.state
        if state.step % self.config.validate_every == 0 or state.step % self.epoch_steps == 0:
            self._validate()
        if state.step % self.config.checkpoint_every == 0 or state.step == self.total:
            save_checkpoint(self.parts, state, self.parameters, self.optimizer, self.best)

    def _validate(self) -> None:
        """Note the validation loss; keep these weights if they are the best of those trained so far."""
        state = self.state
        previous = [v.loss for v in state.validation if v.step > 0]
        loss = math.inf
        if self.data.validation:
            state.validation.append(self._validation())
            loss = state.validation[-1].loss
        if state.step > 0 and (loss < min(previous, default=math.inf) or not previous):
            self.best, state.best_step = copies(self.parameters), state.step

    def _validation(self) -> Validation:
        self.model.eval()
        total, count = 0.0, 0
        sums: dict[str, float] = {}
        for group in micro_batches(self.data.validation, self.objective.length, self.config.micro_batch_tokens):
            with torch.no_grad():
                loss = self.objective.loss(group)
            total += float(loss.total)
            count += loss.count
            for name, value in loss.sums.items():
                sums[name] = sums.get(name, 0.0) + value
        mean = total / count
        if not math.isfinite(mean):
            raise TrainingError(f"the validation loss after step {self.state.step} is {mean}")
        return Validation(self.state.step, mean, {name: value / count for name, value in sums.items()})

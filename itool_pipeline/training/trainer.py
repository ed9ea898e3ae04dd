"""One training loop for SFT and preference optimisation of a LoRA adapter (App. B.1).

AdamW, cosine schedule with warm-up, gradient accumulation, the best checkpoint on the validation set. A run that was
killed goes on from its last checkpoint and ends with the same weights, bit for bit on the same machine, because
order and dropout depend on (seed, epoch, step) only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.core.types import Metrics, Progress, no_metrics, no_progress
from itool_pipeline.files.seals import write_sealed
from itool_pipeline.training.checkpoint import (
    TrainingState,
    copies,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from itool_pipeline.training.items import T, TrainingData
from itool_pipeline.training.job import TrainingError, TrainingResult, Validation, candidate_path
from itool_pipeline.training.log_probs import Kernels, LogProbs, TokenLogProbs
from itool_pipeline.training.lora import save_adapter, trainable_parameters
from itool_pipeline.training.packing import micro_batches
from itool_pipeline.training.processes import TrainingProcesses
from itool_pipeline.training.schedule import learning_rate_factor


@dataclass(frozen=True, slots=True)
class Loss:
    """Sums over a micro-batch. A step's loss is the sum of totals over the sum of counts.

    total  scalar with gradients
    count  what the loss is a mean over: response tokens, or pairs
    sums   further figures to report, each with what it is a mean over
    """

    total: Tensor
    count: int
    sums: Mapping[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective(Generic[T]):
    """What is minimised, and how items are grouped.

    name     what it is, with its settings: a training goes on only with the objective that it began with
    loss     the loss of items that fit into one pass, from the log-probabilities of the policy
    steps    (items in the epoch's order, batch size) → the items of each optimizer step; how many steps there are
             must not depend on the order
    prepare  (peft's model, its log-probabilities, items, tokens in a pass) → the items with what they must know of
             the start weights; called once, before anything is trained
    metrics  names of the loss's sums
    """

    name: str
    loss: Callable[[LogProbs, Sequence[T]], Loss]
    steps: Callable[[Sequence[T], int], list[list[T]]]
    prepare: Callable[[Any, LogProbs, Sequence[T], int], Sequence[T]] = lambda model, log_probs, items, tokens: items
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a training writes.

    parts       resumable checkpoints of this very training; removing them is left to the caller
    out         the trained adapter
    candidates  if given, the adapters of all validations after the start (`candidate_path`)
    """

    parts: Path
    out: Path
    candidates: Path | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """How a training is computed, which changes no more than rounding; may be changed when a killed one goes on.

    gradient_checkpointing  less memory, more time, the same adapter
    progress                called with (optimizer steps done, total) after each step
    metrics                 told of `train` after each step, and of `validation` as often as that is measured
    sharded                 the base weights are shared out among the processes, and so are `model`'s layers already
    """

    kernels: Kernels = "fused"
    gradient_checkpointing: bool = False
    progress: Progress = no_progress
    metrics: Metrics = no_metrics
    sharded: bool = False


def train_adapter(
    model: Any,
    data: TrainingData[T],
    objective: Objective[T],
    config: OptimizerConfig,
    seed: int,
    folders: Folders,
    execution: Execution = Execution(),
) -> TrainingResult:
    """Train the adapter of peft's `model`; leave its best weights in the model and, as an adapter, in `folders.out`.

    `model` must hold the start weights, also when a killed training goes on. In several processes (`processes`) each
    calls this with the same arguments. Raises TrainingError when there is nothing to train on, when the loss or its
    gradient stops being finite, or when the parts belong to another training.
    """
    if not data.train:
        raise TrainingError("there is nothing to train on: the training set is empty")
    log_probs = TokenLogProbs(model, execution.kernels, execution.gradient_checkpointing)
    processes = TrainingProcesses(sharded=execution.sharded)
    run = _Run(log_probs, processes, data, objective, config, seed, folders, execution.metrics)
    run.start()
    for step in range(run.state.step, run.total):
        run.take_step(step)
        execution.progress(run.state.step, run.total)
    restore(run.parameters, run.best)
    model.eval()
    if run.processes.rank == 0:
        save_adapter(model, folders.out)
    run.processes.wait()
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
        log_probs: TokenLogProbs,
        processes: TrainingProcesses,
        data: TrainingData[T],
        objective: Objective[T],
        config: OptimizerConfig,
        seed: int,
        folders: Folders,
        metrics: Metrics,
    ) -> None:
        self.metrics = metrics
        self.model, self.objective, self.config = log_probs.model, objective, config
        self.processes, self.seed, self.folders = processes, seed, folders
        self.parameters: dict[str, nn.Parameter] = trainable_parameters(self.model)
        optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        # Several processes need passes to share out, and rows that are joined would all be in one.
        self.joined = self.processes.count == 1 and log_probs.joins_rows
        self.log_probs, self.optimizer = self.processes.prepare(log_probs, optimizer)
        self.epoch_steps = len(objective.steps(data.train, config.batch_size))
        self.total = self.epoch_steps * config.epochs
        self.state = TrainingState(signature=self._signature(data))
        self.best: dict[str, Tensor] = {}
        self.order: tuple[int, list[list[T]]] = (-1, [])
        self.train, self.validation = (
            objective.prepare(self.model, self.log_probs, items, config.micro_batch_tokens)
            for items in (data.train, data.validation)
        )

    def _signature(self, data: TrainingData[T]) -> str:
        """What must be alike for a checkpoint to be continued."""
        shapes = [[name, *p.shape] for name, p in self.parameters.items()]
        content = hashlib.sha256()
        for item in (*data.train, None, *data.validation):
            content.update(repr(item).encode())
        settings = [self.config.model_dump(), self.seed, self.total, self.objective.name, shapes]
        return json.dumps([*settings, content.hexdigest()], sort_keys=True)

    def start(self) -> None:
        """Take up the last checkpoint, or measure the validation loss before the first step."""
        loaded = load_checkpoint(self.folders.parts, self.parameters, self.optimizer)
        if loaded is None:
            self._validate()
            return
        state, self.best = loaded
        if state.signature != self.state.signature:
            raise TrainingError(f"{self.folders.parts} holds checkpoints of another training: remove it")
        self.state = state

    def take_step(self, step: int) -> None:
        """Optimizer step number `step`, counted from 0, with validation and checkpoint where they are due."""
        items = self._items(step)
        loss, further = self._accumulate(items, step)
        norm = self.processes.clip_gradients(self.parameters.values(), self.config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            names = ", ".join(item.name for item in items)
            raise TrainingError(
                f"step {step + 1} of {self.total}: loss {loss}, gradient norm {norm} on the examples {names}; "
                "lower the learning rate or remove the example"
            )
        warmup = math.ceil(self.total * self.config.warmup_ratio)
        factor = learning_rate_factor(step, step + 1, self.total, warmup)
        rate = self.config.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step = step + 1
        self.state.losses.append(loss)
        self.metrics("train", step + 1, {"loss": loss, "learning_rate": rate, "gradient_norm": norm, **further})
        self._keep()

    def _items(self, step: int) -> list[T]:
        epoch, index = divmod(step, self.epoch_steps)
        if self.order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
            shuffled = [self.train[i] for i in order]
            self.order = (epoch, self.objective.steps(shuffled, self.config.batch_size))
        return self.order[1][index]

    def _passes(self, items: Sequence[T]) -> list[list[T]]:
        """The passes over `items`, to be dealt out."""
        budget = self.processes.budget(self.config.micro_batch_tokens, sum(item.length for item in items))
        return micro_batches(items, lambda item: item.length, budget, joined=self.joined)

    def _accumulate(self, items: Sequence[T], step: int) -> tuple[float, dict[str, float]]:
        """Gradients of the mean loss over `items`, pass by pass; returns that mean, and those of the further figures.

        These are of the weights before the step, with dropout.
        """
        self.log_probs.train()
        sums = self._no_sums()
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        rank = self.processes.rank
        # The main process draws what a single one would; the others draw masks of their own.
        seed = np.random.default_rng([self.seed, step, rank] if rank else [self.seed, step]).integers(2**62)
        with torch.random.fork_rng(devices=devices), self.processes.own_gradients(self.log_probs):
            torch.manual_seed(int(seed))
            passes = self._passes(items)
            for group in self.processes.deal(passes):
                loss = self.objective.loss(self.log_probs, group)
                self.processes.backward(loss.total)
                sums = self._added(sums, loss)
            for group in self.processes.idle(passes):
                self.processes.backward(0.0 * self.objective.loss(self.log_probs, group).total)
        self.processes.sum_gradients(self.parameters.values())
        total, count, *further = self.processes.sum_figures(sums)
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad.div_(count)
        return total / count, self._means(further)

    def _no_sums(self) -> list[float]:
        return [0.0] * 2 * (1 + len(self.objective.metrics))

    def _added(self, sums: Sequence[float], loss: Loss) -> list[float]:
        """Total and count of the loss, and of each further figure, one after the other, with those of one more pass."""
        further = chain.from_iterable(loss.sums[name] for name in self.objective.metrics)
        return [a + b for a, b in zip(sums, (float(loss.total.detach()), loss.count, *further), strict=True)]

    def _means(self, further: Sequence[float]) -> dict[str, float]:
        """The means of the further figures, by name, from totals and counts; of those that were counted."""
        means = zip(self.objective.metrics, further[::2], further[1::2], strict=True)
        return {name: value / of for name, value, of in means if of}

    def _keep(self) -> None:
        state = self.state
        if state.step % self.config.validate_every == 0 or state.step % self.epoch_steps == 0:
            self._validate()
        if state.step % self.config.checkpoint_every == 0 or state.step == self.total:
            if self.processes.rank == 0:
                save_checkpoint(self.folders.parts, state, self.parameters, self.optimizer, self.best)
            self.processes.wait()

    def _validate(self) -> None:
        """Note the validation loss; keep these weights if they are the best of those trained so far."""
        state = self.state
        previous = [v.loss for v in state.validation if v.step > 0]
        loss = math.inf
        if self.validation:
            measured = self._measure()
            state.validation.append(measured)
            loss = measured.loss
            self.metrics("validation", measured.step, {"loss": loss, **measured.metrics})
        if state.step > 0 and (loss < min(previous, default=math.inf) or not previous):
            self.best, state.best_step = copies(self.parameters), state.step
        candidates = self.folders.candidates
        if candidates is not None and state.step > 0 and self.processes.rank == 0:
            save_adapter(self.model, candidate_path(candidates, state.step), write_sealed)

    def _measure(self) -> Validation:
        """The validation set with the weights as they are. Raises TrainingError when its loss is not finite."""
        self.log_probs.eval()
        sums = self._no_sums()
        passes = self._passes(self.validation)
        for group in self.processes.deal(passes):
            with torch.no_grad():
                loss = self.objective.loss(self.log_probs, group)
            sums = self._added(sums, loss)
        for group in self.processes.idle(passes):
            with torch.no_grad():
                self.objective.loss(self.log_probs, group)
        total, count, *further = self.processes.sum_figures(sums)
        mean = total / count
        if not math.isfinite(mean):
            raise TrainingError(f"the validation loss after step {self.state.step} is {mean}")
        return Validation(self.state.step, mean, self._means(further))

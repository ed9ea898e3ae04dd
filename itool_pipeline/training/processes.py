"""The processes of one training, by accelerate: usually one, or several that share out each step's passes.

All hold the same weights. The passes of a step are dealt out; what they sum up (losses, counts, gradients) is summed
over the processes before it is divided by the step's count, so that the step is the same, up to rounding, however
many there are. With one process nothing is changed, to the bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from itool_pipeline.training.job import TrainingError
from itool_pipeline.training.sharding import shard_rest

T = TypeVar("T")


def _require_gpu_each() -> None:
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false") == "true"
    if torch.cuda.is_available() and not on_cpu and processes > gpus:
        raise TrainingError(
            f"{processes} processes of a training take a GPU each, and torch sees {gpus}: lower compute.processes, or "
            "see to it that torch finds the others (CUDA_VISIBLE_DEVICES)"
        )


class TrainingProcesses:
    """This process among the others of its training. `sharded`: each holds its share of the base weights alone."""

    def __init__(self, *, sharded: bool = False) -> None:
        """Take a GPU, where there are some. Raises TrainingError when there are fewer than processes."""
        _require_gpu_each()
        # Precision and placement are the model's, as it was loaded. Buffers are constants, the same everywhere; to
        # send them round before each pass would need equally many passes in every process.
        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",
            device_placement=False,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        self._sharded = sharded

    @property
    def rank(self) -> int:
        """0 is the main process: it alone writes files."""
        return int(self._accelerator.process_index)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._accelerator.num_processes)

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """What is called in the place of `module` and stepped in the place of `optimizer`."""
        if self._sharded:
            shard_rest(module, self._accelerator.device)
            return module, self._accelerator.prepare(optimizer)
        prepared: tuple[Any, Any] = self._accelerator.prepare(module, optimizer)
        return prepared

    def deal(self, passes: Sequence[T]) -> Sequence[T]:
        """Those of a step's passes that this process computes: every n-th."""
        return passes[self.rank :: self.count]

    def idle(self, passes: Sequence[T]) -> Sequence[T]:
        """A pass to be computed for nothing, where weights are sharded and other processes were dealt one more.

        To compute theirs they need this process's share of every layer, which it gives by computing that layer too.
        """
        over = len(passes) % self.count
        return passes[:1] if self._sharded and 0 < over <= self.rank else passes[:0]

    def budget(self, most: int, tokens: int) -> int:
        """Tokens in a pass, at most `most`, so that a step of so many tokens has a pass for every process."""
        return most if self.count == 1 else min(most, math.ceil(tokens / self.count))

    def own_gradients(self, module: nn.Module) -> AbstractContextManager[None]:
        """Backward passes inside do not wait for each other: gradients are summed once, by `sum_gradients`."""
        context: AbstractContextManager[None] = self._accelerator.no_sync(module)
        return context

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`."""
        self._accelerator.backward(loss)

    def sum_figures(self, figures: Sequence[float]) -> list[float]:
        """Each figure, summed over the processes."""
        own = torch.tensor(figures, dtype=torch.float64, device=self._accelerator.device)
        total: list[float] = self._accelerator.reduce(own, "sum").tolist()
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put into each parameter the sum of all processes' gradients; one that had no pass has none to add."""
        if self.count == 1:
            return
        held = list(parameters)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
        total = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in own]), "sum")
        for p, gradient in zip(held, total.split([p.numel() for p in held]), strict=True):
            p.grad = gradient.view_as(p).clone()

    def clip_gradients(self, parameters: Iterable[nn.Parameter], most: float) -> float:
        """Shorten the gradient to a norm of at most `most`; returns the norm it had."""
        return float(self._accelerator.clip_grad_norm_(parameters, most))

    def main_first(self) -> AbstractContextManager[None]:
        """The main process goes through what is inside, then the others."""
        context: AbstractContextManager[None] = self._accelerator.main_process_first()
        return context

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

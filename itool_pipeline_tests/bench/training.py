"""Preference training with SimPO: ours, plain transformers and peft, and TRL's CPOTrainer, on the same pairs.

A round is one optimizer step on all pairs of a shape. The loss is that of the first round after the warm-up: the same
for all three up to rounding and to their schedules of the learning rate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from itool_pipeline.config import SimpoLoss
from itool_pipeline.engines.model import load_model
from itool_pipeline.training.items import PreferenceRow, TokenPair
from itool_pipeline.training.lora import fresh_adapter
from itool_pipeline.training.preference import preference_objective
from itool_pipeline_tests.bench.contenders import Contender, compare, median_round
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.own_training import play_training
from itool_pipeline_tests.bench.plain_simpo import play_plain_simpo
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.worker import Options, Play, Turns
from itool_pipeline_tests.bench.workload import (
    Workload,
    base_directory,
    bench_folder,
    compute_config,
    load_workload,
)

DEMO = "demo"
DEMO_PAIRS_A_TREE = (1, 2)
"""The demo's searches gave 21 and 18 pairs of some fifteen trees each: trees with one and with two take turns."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many trees a step has, and how often it is measured; a long step is measured once."""

    name: str
    trees: int
    rounds: int
    warm_ups: int


SHAPES = (Shape("400/12/4", 2, 3, 1), Shape("2000/32/8", 1, 1, 0), Shape("64/64/1", 8, 3, 1), Shape(DEMO, 5, 2, 1))


def shaped_rows(workload: Workload, shape: Shape) -> list[PreferenceRow]:
    """The shape's trees: of `prompt/branch/pairs` tokens of the demo's prompts, cut to measure; of the demo its own."""
    if shape.name == DEMO:
        return demo_rows(workload, shape.trees)
    prompt, branch, pairs = map(int, shape.name.split("/"))
    tokens = _endless_tokens(workload)
    rows = []
    for number in range(shape.trees):
        own = tuple(islice(tokens, prompt))
        # The first token of each branch is its own, so that no two of a tree begin alike.
        branches = [(1000 + i, *islice(tokens, branch - 1)) for i in range(2 * pairs)]
        found = tuple(TokenPair((), branches[2 * i], branches[2 * i + 1]) for i in range(pairs))
        rows.append(PreferenceRow(f"tree {number}", own, found))
    return rows


def demo_rows(workload: Workload, trees: int) -> list[PreferenceRow]:
    """Pairs as the demo has them: after a part of a gold response its next fragment, and one of another response."""
    found = [(x, workload.rule.split(x.response)) for x in workload.examples() if x.gold]
    calling = [(x.id, pieces) for x, pieces in found if len(pieces) > max(DEMO_PAIRS_A_TREE)][: trees + 1]
    chat = workload.chat()
    fragments = [[chat.response(piece)[:-1] for piece in pieces] for _, pieces in calling]
    prompts = workload.prompts([name for name, _ in calling])
    rows = []
    for number, count in zip(range(trees), cycle(DEMO_PAIRS_A_TREE), strict=False):
        own, other = fragments[number], fragments[number + 1]
        paths = [tuple(token for fragment in own[:depth] for token in fragment) for depth in range(count)]
        pairs = tuple(TokenPair(path, own[depth], other[depth]) for depth, path in enumerate(paths))
        rows.append(PreferenceRow(calling[number][0], prompts[number], pairs))
    return rows


def _endless_tokens(workload: Workload) -> Iterator[int]:
    return (token for prompt in cycle(workload.prompts(workload.names[:100])) for token in prompt)


def training_rows(machine: Machine, workload: Workload, shapes: Sequence[Shape] = SHAPES) -> Iterator[Row]:
    """One row for each contender and shape."""
    plays: dict[str, Play] = {"ours": play_ours, "plain": play_plain, "trl": play_trl}
    for shape in shapes:
        options = {"shape": shape.name, "trees": shape.trees, "dtype": machine.dtype}
        found = compare(
            [Contender(name, play, options) for name, play in plays.items()],
            rounds=shape.rounds,
            warm_ups=shape.warm_ups,
            logs=bench_folder() / "logs" / f"training_{shape.name.replace('/', '_')}",
        )
        pairs = sum(len(row.pairs) for row in shaped_rows(workload, shape))
        speeds = {name: pairs / median_round(rounds)["wall_s"] for name, rounds in found.items()}
        for name, rounds in found.items():
            yield {
                "name": name,
                "shape": shape.name,
                "pairs_per_s": speeds[name],
                "ours_is_faster": speeds["ours"] / speeds[name],
                "peak_memory_mb": median_round(rounds)["peak_memory_mb"],
                "loss": rounds[0]["loss"],
                "pairs": pairs,
                "cpu_s": median_round(rounds)["cpu_s"],
                "rounds": shape.rounds,
            }


@dataclass(frozen=True, slots=True)
class Step:
    """What a contender computes in a round: all pairs of `rows`, with peft's `model` and the demo's settings."""

    rows: Sequence[PreferenceRow]
    model: Any
    tokenizer: Any
    workload: Workload

    @property
    def loss(self) -> SimpoLoss:
        loss = self.workload.experiment.preference.loss
        assert isinstance(loss, SimpoLoss)
        return loss


def step_of(options: Options) -> Step:
    """Load what the options name."""
    workload = load_workload()
    loaded = load_model(base_directory(), compute_config(options["dtype"]))
    shape = Shape(options["shape"], options["trees"], 0, 0)
    model = fresh_adapter(loaded.model, workload.experiment.warmup.lora, 0)
    return Step(shaped_rows(workload, shape), model, loaded.tokenizer, workload)


def play_ours(options: Options, turns: Turns) -> None:
    """The product's own training loop."""
    step = step_of(options)
    pairs = sum(len(row.pairs) for row in step.rows)
    optimizer = step.workload.experiment.preference.optimizer.model_copy(update={"batch_size": pairs})
    play_training(step.model, step.rows, preference_objective(step.loss), optimizer, 1, turns)


def play_plain(options: Options, turns: Turns) -> None:
    """A loop as one writes it by hand."""
    step = step_of(options)
    optimizer = step.workload.experiment.preference.optimizer
    play_plain_simpo(step.model, step.rows, step.loss, optimizer.learning_rate, optimizer.micro_batch_tokens, turns)


def play_trl(options: Options, turns: Turns) -> None:
    """TRL's CPOTrainer."""
    from itool_pipeline_tests.bench.trl_trainers import play_simpo  # no other contender's memory is to hold TRL

    step = step_of(options)
    optimizer = step.workload.experiment.preference.optimizer
    with tempfile.TemporaryDirectory() as folder:
        play_simpo(
            step.model,
            step.tokenizer,
            step.rows,
            step.loss,
            optimizer.learning_rate,
            optimizer.micro_batch_tokens,
            folder,
            turns,
        )

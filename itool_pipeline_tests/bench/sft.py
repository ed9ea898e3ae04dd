"""Supervised fine-tuning on the demo's examples: ours, and TRL's SFTTrainer.

A round is one epoch over a few of the demo's warm-up examples, at its batch size. Tokens are those of prompts and
responses; padding counts for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from itool_pipeline.engines.model import load_model
from itool_pipeline.steps.forecast.flops import ModelSize, Work, chain_work, training_flops
from itool_pipeline.training.items import SftItem
from itool_pipeline.training.lora import fresh_adapter, trainable_parameters
from itool_pipeline.training.sft import SFT
from itool_pipeline_tests.bench.contenders import Contender, compare, median_round
from itool_pipeline_tests.bench.flops import model_size
from itool_pipeline_tests.bench.machine import Dtype, Machine
from itool_pipeline_tests.bench.own_training import play_training
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.worker import Options, Play, Turns
from itool_pipeline_tests.bench.workload import (
    Workload,
    base_directory,
    bench_folder,
    compute_config,
    load_workload,
)

EXAMPLES, ROUNDS = 16, 3


def sft_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """One row for each contender."""
    plays: dict[str, Play] = {"ours": play_ours, "trl": play_trl}
    options = {"dtype": machine.dtype, "examples": EXAMPLES}
    found = compare(
        [Contender(name, play, options) for name, play in plays.items()],
        rounds=ROUNDS,
        warm_ups=1,
        logs=bench_folder() / "logs" / "sft",
    )
    items = workload.sft_items(EXAMPLES)
    tokens = sum(item.length for item in items)
    size = model_size_with_adapter(machine.dtype, workload)
    needed = training_flops(size, sft_work(items))
    middle = {name: median_round(rounds) for name, rounds in found.items()}
    for name, figures in middle.items():
        yield {
            "name": name,
            "tokens_per_s": tokens / figures["wall_s"],
            "ours_is_faster": figures["wall_s"] / middle["ours"]["wall_s"],
            "matrix_rate_share": needed / figures["wall_s"] / (machine.matrix_gflops * 1e9),
            "peak_memory_mb": figures["peak_memory_mb"],
            "loss": found[name][0]["loss"],
            "cpu_s": figures["cpu_s"],
            "examples": len(items),
            "rounds": ROUNDS,
        }


def sft_work(items: Sequence[SftItem]) -> Work:
    """Every token but the last is a column, and logits are read where one of the response's comes next."""
    return sum((chain_work(item.length - 1, 0, len(item.response)) for item in items), Work())


def model_size_with_adapter(dtype: Dtype, workload: Workload) -> ModelSize:
    """The embedded model's size, and that of the demo's adapter."""
    base = load_model(base_directory(), compute_config(dtype)).model
    size = model_size(base)
    adapter = trainable_parameters(fresh_adapter(base, workload.experiment.warmup.lora, 0)).values()
    return replace(size, adapter=sum(parameter.numel() for parameter in adapter))


def play_ours(options: Options, turns: Turns) -> None:
    """The product's own training loop."""
    workload, items, model, _ = _given(options)
    optimizer = workload.experiment.warmup.optimizer
    play_training(model, items, SFT, optimizer, len(items) // optimizer.batch_size, turns)


def play_trl(options: Options, turns: Turns) -> None:
    """TRL's SFTTrainer."""
    from itool_pipeline_tests.bench.trl_trainers import play_sft  # no other contender's memory is to hold TRL

    workload, items, model, tokenizer = _given(options)
    optimizer = workload.experiment.warmup.optimizer
    with tempfile.TemporaryDirectory() as folder:
        play_sft(model, tokenizer, items, optimizer.learning_rate, optimizer.batch_size, folder, turns)


def _given(options: Options) -> tuple[Workload, list[SftItem], Any, Any]:
    workload = load_workload()
    loaded = load_model(base_directory(), compute_config(options["dtype"]))
    model = fresh_adapter(loaded.model, workload.experiment.warmup.lora, 0)
    return workload, workload.sft_items(options["examples"]), model, loaded.tokenizer

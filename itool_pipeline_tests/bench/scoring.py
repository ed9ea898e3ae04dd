"""Answers to BFCL's prompts: our engine, and transformers' `generate` in batches padded on the left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from itool_pipeline_tests.bench.contenders import Contender, compare, median_round
from itool_pipeline_tests.bench.counting import ColumnCounter
from itool_pipeline_tests.bench.machine import Machine
from itool_pipeline_tests.bench.report import Row
from itool_pipeline_tests.bench.search import own_engine
from itool_pipeline_tests.bench.worker import Options, Turns
from itool_pipeline_tests.bench.workload import Workload, bench_folder, load_workload, policy_model, stand_in

CASES, ROUNDS = 64, 2


def scoring_rows(machine: Machine, workload: Workload) -> Iterator[Row]:
    """One row for each contender."""
    options = {"dtype": machine.dtype, "adapter": str(stand_in(workload))}
    found = compare(
        [Contender("ours", play_ours, options), Contender("plain", play_plain, options)],
        rounds=ROUNDS,
        warm_ups=0,
        logs=bench_folder() / "logs" / "scoring",
    )
    middle = {name: median_round(rounds) for name, rounds in found.items()}
    for name, figures in middle.items():
        yield {
            "name": name,
            "cases_per_s": CASES / figures["wall_s"],
            "ours_is_faster": figures["wall_s"] / middle["ours"]["wall_s"],
            "tokens_computed": int(figures["columns"]),
            "tokens_answered": int(figures["answered"]),
            "peak_memory_mb": figures["peak_memory_mb"],
            "cases": CASES,
            "rounds": ROUNDS,
        }


def play_ours(options: Options, turns: Turns) -> None:
    """All cases in each round."""
    workload = load_workload()
    loaded = policy_model(Path(options["adapter"]), options["dtype"])
    prompts, counter = workload.prompts(workload.names[-CASES:]), ColumnCounter(loaded.model)
    most = workload.scoring.max_new_tokens
    while True:
        turns.await_turn()
        before = counter.columns
        answers = dict(own_engine(workload, loaded).answer_each(prompts, most))
        turns.report(columns=counter.columns - before, answered=sum(map(len, answers.values())))


def play_plain(options: Options, turns: Turns) -> None:
    """All cases in each round, longest first, in the demo's batches."""
    workload = load_workload()
    loaded = policy_model(Path(options["adapter"]), options["dtype"])
    ordered = sorted(workload.prompts(workload.names[-CASES:]), key=len, reverse=True)
    size, most = workload.scoring.batch_size, workload.scoring.max_new_tokens
    counter, ends = ColumnCounter(loaded.model), loaded.end_tokens | {workload.chat().end_token}
    while True:
        turns.await_turn()
        before, answered = counter.columns, 0
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            ids = torch.full((len(batch), len(batch[0])), min(ends))
            mask = torch.zeros_like(ids)
            for row, prompt in enumerate(batch):
                ids[row, -len(prompt) :] = torch.tensor(prompt)
                mask[row, -len(prompt) :] = 1
            with torch.inference_mode():
                made = loaded.model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=most,
                    eos_token_id=sorted(ends),
                    pad_token_id=min(ends),
                )
            for row in made[:, ids.shape[1] :].tolist():
                answered += next((i for i, token in enumerate(row) if token in ends), len(row))
        turns.report(columns=counter.columns - before, answered=answered)

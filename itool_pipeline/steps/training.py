"""The assets that train: warmup/easy → medium → hard (Section 3.1), and iteration_k/policy (Section 3.2).

Each writes a training job and its data into its parts and runs it in this process; `python -m itool_pipeline.training`
would do the same with the file. Torch is imported where it is used: it takes seconds, and Dagster loads the steps'
modules to draw the graph.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from itool_pipeline.config import Grpo, OptimizerConfig, RejectionSampling
from itool_pipeline.core.reward import ResponseState, outcome_of
from itool_pipeline.core.seeds import derive_seed
from itool_pipeline.core.splits import validation_ids
from itool_pipeline.engines.factory import release_engines
from itool_pipeline.files.parts import Parts
from itool_pipeline.steps.artifact_files import ANSWERS_FILE, PAIRS_FILE
from itool_pipeline.steps.candidates import Answered, answered, most_right
from itool_pipeline.steps.computing import computed_in, settled
from itool_pipeline.steps.display import loss_plot
from itool_pipeline.steps.example_access import buffered_rows, each_problem, each_response_tokens, split_rows
from itool_pipeline.steps.judging import search_judge
from itool_pipeline.steps.models import ADAPTER, adapter_dir, base_dir, chat
from itool_pipeline.steps.plan import STAGES, passes_on, policy_before
from itool_pipeline.steps.tree_rows import generated_tokens
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.manifest import Artifact
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline.training.data_file import write_preference_data, write_sft_data
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair, TrainingData, fit_rows
from itool_pipeline.training.job import (
    ContinuedAdapter,
    FreshAdapter,
    GrpoJob,
    Objectives,
    PreferenceObjective,
    SftObjective,
    TrainingJob,
    TrainingResult,
    Validation,
    candidate_path,
    candidate_steps,
)

CHECKPOINT = "checkpoint.json"
"""The row of the table `checkpoints`, without its seconds."""
JOB, JOB_DATA, JOB_RESULT, CANDIDATES = "job.json", "training_data.parquet", "result.json", "candidates"
"""In the parts, as the job holds paths of this machine; what decides the training is in the manifest's config."""

_PAIR_IDS = ("prefix_ids", "chosen_ids", "rejected_ids")
"""Columns of the table `pairs`, in TokenPair's order."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """A training's result, and what its policies answered where that decided which weights were kept."""

    result: TrainingResult
    policies: tuple[Answered, ...] = ()


def warmup(ws: Workspace, stage: str) -> Produced:
    """Fine-tune on one difficulty, from where the stage before ended (Eq. 2 and 3).

    With another curriculum than easy to hard, a stage trains on all difficulties or passes the checkpoint on.
    """
    asset = f"warmup/{stage}"
    before = f"warmup/{STAGES[STAGES.index(stage) - 1]}" if stage != STAGES[0] else "base_model"

    def make(step: Step) -> dict[str, Any]:
        config = ws.experiment.warmup
        if passes_on(ws.experiment, asset):
            return _unchanged(ws, asset, before, step, "the curriculum trains nothing in this stage")
        data = _sft_data(ws, stage)
        if not data.train:
            return _unchanged(ws, asset, before, step, "no training example has this difficulty")
        own = settled(ws, step.parts)
        what = "mixed" if config.curriculum == "mixed" else stage
        kept = "" if data.validation else "; none validates, so the last weights are kept and not the best"
        ws.say(f"fine-tuning on {len(data.train)} {what} examples{kept}")
        write_sft_data(step.parts.path(JOB_DATA), data)
        trained = _train(own, asset, before, step, SftObjective(), config.optimizer)
        return _finish(ws, asset, before, step, trained)

    return ws.produce(asset, make, _tables)


def policy(ws: Workspace, k: int) -> Produced:
    """Preference optimisation on the pairs of iteration k, from the newest policy (Eq. 10 and 11)."""
    asset, before = f"iteration_{k}/policy", policy_before(k)

    def make(step: Step) -> dict[str, Any]:
        config = ws.experiment.preference
        if isinstance(config.loss, RejectionSampling):
            return _right_answers(ws, k, step, config.loss)
        if isinstance(config.loss, Grpo):
            return _by_grpo(ws, k, step, config.loss)
        fitted = fit_rows(_preference_rows(ws, k), config.max_tokens, config.overlong)
        if not fitted.rows:
            return _unchanged(ws, asset, before, step, "the search gave no pair that could be trained on")
        own, held_back = settled(ws, step.parts), _preference_validation(ws)
        data = TrainingData(
            [row for row in fitted.rows if row.name not in held_back],
            [row for row in fitted.rows if row.name in held_back],
        )
        counts = {
            name: sum(len(r.pairs) for r in rows)
            for name, rows in (("pairs", data.train), ("validation_pairs", data.validation))
        }
        ws.say(f"optimising preferences on {counts['pairs']} pairs of {len(data.train)} trees")
        write_preference_data(step.parts.path(JOB_DATA), data)
        objective = PreferenceObjective(loss=config.loss, gold_weight=config.gold_weight)
        trained = _train(own, asset, before, step, objective, config.optimizer, config.quantization)
        measured = {f"{name}_{when}": v.metrics[name] for when, v in _ends(trained.result) for name in v.metrics}
        fit = {"overlong_refused": fitted.refused, "overlong_cut": fitted.cut}
        return {**_finish(ws, asset, before, step, trained), **counts, **fit, **measured}

    return ws.produce(asset, make, _tables)


def _right_answers(ws: Workspace, k: int, step: Step, config: RejectionSampling) -> dict[str, Any]:
    """Fine-tune on right answers of the policy in place of preferences."""
    asset, before, preference = f"iteration_{k}/policy", policy_before(k), ws.experiment.preference
    items, refused = _answer_items(ws, k, config.answers_per_tree, preference.max_tokens)
    if not items:
        return _unchanged(ws, asset, before, step, "the search gave no right answer that could be trained on")
    own, held_back = settled(ws, step.parts), _preference_validation(ws)
    data = TrainingData(
        [item for item in items if item.name not in held_back], [item for item in items if item.name in held_back]
    )
    counts = {"answers": len(data.train), "validation_answers": len(data.validation), "overlong_refused": refused}
    ws.say(f"fine-tuning on {len(data.train)} right answers")
    write_sft_data(step.parts.path(JOB_DATA), data)
    trained = _train(own, asset, before, step, SftObjective(), preference.optimizer, preference.quantization)
    return {**_finish(ws, asset, before, step, trained), **counts}


def _answer_items(ws: Workspace, k: int, most: int, max_tokens: int) -> tuple[list[SftItem], int]:
    """The first `most` right answers of each tree, and how many of them are too long with their prompt."""
    found: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(ANSWERS_FILE), ["tree_id", "answer_ids"]):
        if len(found[row["tree_id"]]) < most:
            found[row["tree_id"]].append(tuple(row["answer_ids"]))
    prompts = {tokens.id: tokens.prompt for tokens in each_response_tokens(ws, found)}
    items = [SftItem(key, prompts[key], answer) for key, answers in found.items() for answer in answers]
    fitting = [item for item in items if item.length <= max_tokens]
    return fitting, len(items) - len(fitting)


def _by_grpo(ws: Workspace, k: int, step: Step, config: Grpo) -> dict[str, Any]:
    """Go on with GRPO on the prompts of the examples that were searched, in place of preferences.

    Those that validate preferences are left out here too. One that was killed begins again from the policy before.
    """
    from itool_pipeline.training.grpo import train_by_grpo

    asset, before, e = f"iteration_{k}/policy", policy_before(k), ws.experiment
    searched, held_back = generated_tokens(ws, k), _preference_validation(ws)
    problems = {p.example.id: p for p in each_problem(ws, searched.keys() - held_back)}
    room = e.preference.max_tokens - e.search.max_response_tokens
    prompts = {key: problem.prompt for key, problem in problems.items() if len(problem.prompt) <= room}
    budget = sum(searched.values()) if config.budget == "search" else config.budget
    if not prompts or not budget:
        return _unchanged(ws, asset, before, step, "no example was searched that could be trained on")
    own, template, judge = settled(ws, step.parts), chat(ws), search_judge(ws)

    def reward(name: str, token_ids: tuple[int, ...], finished: bool) -> float:
        text = template.text(token_ids)
        state = ResponseState(problems[name], token_ids, text, finished, truncated=not finished)
        return outcome_of(state, judge, e.search.outcome).value

    job = GrpoJob(
        base_model=base_dir(ws).absolute(),
        compute=own.experiment.compute,
        quantization=e.preference.quantization,
        adapter=_adapter(ws, before),
        loss=config,
        drawing=e.search,
        end_token=template.end_token,
        budget=budget,
        optimizer=e.preference.optimizer,
        seed=derive_seed(e.seed, asset) % 2**32,
        out=(step.work / ADAPTER).absolute(),
    )
    ws.say(f"GRPO on {len(prompts)} prompts from {before}, until {budget} tokens are generated")
    release_engines()
    result = train_by_grpo(job, prompts, reward, ws.progress("generated tokens"))
    plot = loss_plot(step.work / "reward.png", result.rewards, (), asset, "mean reward")
    steps = len(result.losses)
    as_others = TrainingResult(result.losses, (), steps, steps, result.examples, result.trainable_parameters)
    return {
        **_finish(ws, asset, before, step, _Trained(as_others)),
        "overlong_refused": len(problems) - len(prompts),
        "search_tokens": sum(searched.values()),
        "token_budget": budget,
        "generated_tokens": result.generated_tokens,
        "first_reward": result.rewards[0],
        "last_reward": result.rewards[-1],
        "mean_equal_rewards": fmean(result.equal_rewards),
        "reward": plot,
    }


def _preference_validation(ws: Workspace) -> frozenset[str]:
    """Examples whose pairs validate, in every iteration the same, so that none of them is ever trained on."""
    e = ws.experiment
    buffered = {key: row.group_id for key, row in buffered_rows(ws).items()}
    return validation_ids(buffered, e.split.validation_fraction, derive_seed(e.seed, "preference"))


def _ends(result: TrainingResult) -> list[tuple[str, Validation]]:
    """Validation before the first step and at the step whose weights were kept."""
    kept = [v for v in result.validation if v.step == result.best_step]
    return [*(("before", v) for v in result.validation[:1]), *(("after", v) for v in kept[:1])]


def _train(
    ws: Workspace,
    asset: str,
    before: str,
    step: Step,
    objective: Objectives,
    optimizer: OptimizerConfig,
    quantization: Literal["nf4", "none"] = "none",
) -> _Trained:
    """Run the training of the step's data from the checkpoint `before`.

    What it leaves as the adapter has the lowest validation loss or, where the config says so, the most right answers.
    """
    from itool_pipeline.training.runner import run_training_job

    e, parts = ws.experiment, step.parts
    job = TrainingJob(
        base_model=base_dir(ws).absolute(),
        compute=e.compute,
        quantization=quantization,
        adapter=_adapter(ws, before),
        data=parts.path(JOB_DATA).absolute(),
        objective=objective,
        optimizer=optimizer,
        seed=derive_seed(e.seed, asset) % 2**32,
        parts=parts.directory.absolute(),
        out=(step.work / ADAPTER).absolute(),
        candidates=parts.path(CANDIDATES).absolute() if _chosen_by_answers(ws, asset) else None,
        result=parts.path(JOB_RESULT).absolute(),
    )
    ws.say(f"training from {before} by the job {parts.write_json(JOB, job)}")
    release_engines()
    result = run_training_job(job, ws.progress("optimizer steps"))
    return _Trained(result) if job.candidates is None else _keep_most_right(ws, asset, before, step, result)


def _adapter(ws: Workspace, before: str) -> FreshAdapter | ContinuedAdapter:
    """The adapter of the checkpoint `before`; a new one where it has none."""
    e, start = ws.experiment, adapter_dir(ws, before)
    if start is None:
        return FreshAdapter(lora=e.warmup.lora, seed=derive_seed(e.seed, "adapter") % 2**32)
    return ContinuedAdapter(directory=start.absolute())


def _sft_data(ws: Workspace, stage: str) -> TrainingData[SftItem]:
    rows = split_rows(ws)
    # Every stage is validated on all difficulties, so that the stages' losses can be compared.
    mixed = ws.experiment.warmup.curriculum == "mixed"
    wanted = {
        k
        for k, row in rows.items()
        if row.split == "validation" or (row.split == "train" and (mixed or row.difficulty == stage))
    }
    parts: dict[str, list[SftItem]] = {"train": [], "validation": []}
    for tokens in each_response_tokens(ws, wanted):
        parts[rows[tokens.id].split].append(SftItem(tokens.id, tokens.prompt, tokens.response))
    return TrainingData(parts["train"], parts["validation"])


def _preference_rows(ws: Workspace, k: int) -> list[PreferenceRow]:
    pairs: dict[str, list[TokenPair]] = defaultdict(list)
    for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE), ["tree_id", "kept", *_PAIR_IDS]):
        if row["kept"]:
            pairs[row["tree_id"]].append(TokenPair(*(tuple(row[name]) for name in _PAIR_IDS)))
    with_gold = ws.experiment.preference.gold_weight > 0
    tokens = {
        found.id: (found.prompt, found.response if with_gold else ()) for found in each_response_tokens(ws, pairs)
    }
    return [PreferenceRow(key, tokens[key][0], tuple(found), tokens[key][1]) for key, found in pairs.items()]


def _unchanged(ws: Workspace, asset: str, before: str, step: Step, why: str) -> dict[str, Any]:
    """A checkpoint equal to the one before: there was nothing to train on."""
    ws.say(f"{asset}: {why}; the checkpoint stays as it was at {before}")
    previous = adapter_dir(ws, before)
    if previous is not None:
        shutil.copytree(previous, step.work / ADAPTER, dirs_exist_ok=True)
    _write(ws, asset, before, step, None)
    return {"unchanged": why, "optimizer_steps": 0}


def _chosen_by_answers(ws: Workspace, asset: str) -> bool:
    return ws.experiment.preference.keep == "most_right" and not asset.startswith("warmup/")


def _keep_most_right(ws: Workspace, asset: str, before: str, step: Step, result: TrainingResult) -> _Trained:
    """Leave as the adapter what answers most validation examples right: one that was validated, or the one before."""
    out, candidates = step.work / ADAPTER, step.parts.path(CANDIDATES)
    adapters = {
        0: adapter_dir(ws, before),
        **{steps: candidate_path(candidates, steps) for steps in candidate_steps(candidates)},
    }
    release_engines()
    policies = answered(ws, adapters, asset, step.parts)
    best = most_right(policies)
    found = ", ".join(f"{policy.right} after {policy.step} steps" for policy in policies)
    ws.say(f"{asset}: right of {best.examples} validation examples: {found}; those after {best.step} are kept")
    kept = adapters[best.step]
    shutil.rmtree(out)
    if kept is not None:
        shutil.copytree(kept, out)
    return _Trained(replace(result, best_step=best.step), tuple(policies))


def _finish(ws: Workspace, asset: str, before: str, step: Step, trained: _Trained) -> dict[str, Any]:
    result = trained.result
    _write(ws, asset, before, step, trained)
    points = [(v.step, v.loss) for v in result.validation]
    best = [v.loss for v in result.validation if v.step == result.best_step]
    plot = loss_plot(step.work / "loss.png", result.losses, points, asset)
    return {
        "examples": result.examples,
        "optimizer_steps": result.steps,
        "best_step": result.best_step,
        "first_loss": result.losses[0],
        "last_loss": result.losses[-1],
        **({"validation_loss_before": points[0][1], "validation_loss": best[0]} if best else {}),
        **(_before_and_after(trained.policies) if trained.policies else {}),
        "trainable_parameters": result.trainable_parameters,
        "loss": plot,
        **computed_in(step.parts),
    }


def _before_and_after(policies: Sequence[Answered]) -> dict[str, Any]:
    before, kept = policies[0], most_right(policies)
    return {
        "validation_answers": kept.examples,
        "right_before": before.right,
        "right": kept.right,
        "held_back": kept.step == 0,
    }


def _write(ws: Workspace, asset: str, before: str, step: Step, trained: _Trained | None) -> None:
    result, policies = (trained.result, trained.policies) if trained else (None, ())
    best = [v.loss for v in result.validation if v.step == result.best_step] if result else []
    row = {
        "stage": asset,
        "parent_artifact": ws.planned[before].fingerprint,
        "examples": result.examples if result else 0,
        "steps": result.steps if result else 0,
        "train_loss": result.losses[-1] if result else None,
        "validation_loss": best[0] if best else None,
        "best_step": result.best_step if result else 0,
        "trainable_parameters": result.trainable_parameters if result else 0,
        "right_answers": [[policy.step, policy.right, policy.examples] for policy in policies],
        "losses": {
            "train": list(result.losses) if result else [],
            "validation": [[v.step, v.loss] for v in result.validation] if result else [],
        },
    }
    Parts(step.work).write_json(CHECKPOINT, row)


def _tables(artifact: Artifact) -> dict[str, Any]:
    row = Parts(artifact.path).read_json(CHECKPOINT)
    # Artifacts from before `right_answers` have none.
    return {"checkpoints": [{"right_answers": [], **row, "seconds": artifact.manifest.seconds}]}

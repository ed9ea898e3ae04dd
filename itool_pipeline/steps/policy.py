"""iteration_k/policy: the newest policy, trained on by what its search found (Section 3.2).

The paper optimises preferences. The config's loss may say otherwise: what stands in their place has modules of its own,
`rejection_sampling`, `continued_sft` and `grpo`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from itool_pipeline.config import ContinuedSft, Grpo, PreferenceLoss, RejectionSampling
from itool_pipeline.steps.artifact_files import PAIRS_FILE
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.continued_sft import by_gold_answers
from itool_pipeline.steps.example_access import each_response_tokens, split_rows
from itool_pipeline.steps.grpo import by_grpo
from itool_pipeline.steps.held_back import parted
from itool_pipeline.steps.rejection_sampling import by_right_answers
from itool_pipeline.steps.thoughts import behind_thoughts
from itool_pipeline.steps.trained import finish, unchanged
from itool_pipeline.steps.training_run import JOB_DATA, settled_for_training, train
from itool_pipeline.steps.workspace import Produced, Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.store.table_files import read_table_rows
from itool_pipeline.training.data_file import write_preference_data
from itool_pipeline.training.items import PreferenceRow, TokenPair, fit_rows
from itool_pipeline.training.job import PreferenceObjective, TrainingResult, Validation

_PAIR_IDS = ("prefix_ids", "chosen_ids", "rejected_ids")
"""Columns of the table `pairs`, in TokenPair's order."""


def policy(ws: Workspace, k: int) -> Produced:
    """Train the newest policy on what iteration k searched, by the loss that the config names."""

    def make(step: Step) -> dict[str, Any]:
        loss = ws.experiment.preference.loss
        if isinstance(loss, RejectionSampling):
            return by_right_answers(ws, k, step, loss)
        if isinstance(loss, ContinuedSft):
            return by_gold_answers(ws, k, step)
        if isinstance(loss, Grpo):
            return by_grpo(ws, k, step, loss)
        return _by_preferences(ws, k, step, loss)

    return ws.produce(f"iteration_{k}/policy", make)


def _by_preferences(ws: Workspace, k: int, step: Step, loss: PreferenceLoss) -> dict[str, Any]:
    """Preference optimisation on the pairs of iteration k (Eq. 10 and 11)."""
    before, config = policy_before(k), ws.experiment.preference
    fitted = fit_rows(_rows(ws, k), config.max_tokens, config.overlong)
    if not any(row.pairs for row in fitted.rows):
        return unchanged(ws, step, before, "the search gave no pair that could be trained on")
    own, data = settled_for_training(ws, step), parted(ws, fitted.rows)
    counts = {
        name: sum(len(r.pairs) for r in rows)
        for name, rows in (("pairs", data.train), ("validation_pairs", data.validation))
    }
    of_trees = sum(bool(row.pairs) for row in data.train)
    rehearsed = f" and {len(data.train) - of_trees} gold answers alone" if config.rehearse else ""
    ws.say(f"optimising preferences on {counts['pairs']} pairs of {of_trees} trees{rehearsed}")
    write_preference_data(step.parts.path(JOB_DATA), data)
    objective = PreferenceObjective(loss=loss, gold_weight=config.gold_weight)
    trained = train(own, step, before, objective, config.optimizer, config.quantization)
    measured = {f"{name}_{when}": v.metrics[name] for when, v in _ends(trained.result) for name in v.metrics}
    fit = {"overlong_refused": fitted.refused, "overlong_cut": fitted.cut}
    return {**finish(ws, step, before, trained), **counts, **fit, **measured}


def _rows(ws: Workspace, k: int) -> list[PreferenceRow]:
    """The pairs of each tree that gave some, its gold answer, and those that are rehearsed."""
    pairs: dict[str, list[TokenPair]] = defaultdict(list)
    for row in read_table_rows(ws.input(f"iteration_{k}/pairs").file(PAIRS_FILE), ["tree_id", "kept", *_PAIR_IDS]):
        if row["kept"]:
            pairs[row["tree_id"]].append(TokenPair(*(tuple(row[name]) for name in _PAIR_IDS)))
    config = ws.experiment.preference
    warmed_up = ("train", "validation") if config.rehearse else ()
    others = [key for key, row in split_rows(ws).items() if row.split in warmed_up and key not in pairs]
    tokens = {
        found.id: (found.prompt, found.response if config.gold_weight else ())
        for found in each_response_tokens(ws, {*pairs, *others})
    }
    behind = behind_thoughts(ws, k, pairs)
    prompts = {key: behind(key, prompt) if key in pairs else prompt for key, (prompt, _) in tokens.items()}
    return [PreferenceRow(key, prompts[key], tuple(pairs.get(key, ())), tokens[key][1]) for key in (*pairs, *others)]


def _ends(result: TrainingResult) -> list[tuple[str, Validation]]:
    """Validation before the first step and at the step whose weights were kept."""
    kept = [v for v in result.validation if v.step == result.best_step]
    return [*(("before", v) for v in result.validation[:1]), *(("after", v) for v in kept[:1])]

"""The shipped experiments: which table or figure each is for, what they share, and that everything knows them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import yaml

from itool_pipeline.config import (
    BFCL_MULTI_TURN,
    BFCL_SINGLE_TURN,
    Grpo,
    NoGrades,
    ReferenceLoss,
    SampledGrades,
    SamplingConfig,
    SearchBase,
)
from itool_pipeline.defs.automation import weekly
from itool_pipeline.defs.partitions import experiments
from itool_pipeline.experiment_files import SHIPPED, experiment_names, load_experiment
from itool_pipeline.steps.plan import plan

FRONT = {"base_model", "examples", "splits", "bfcl_cases"}
WARMUP = {"warmup/easy", "warmup/medium", "warmup/hard"}
START = FRONT | WARMUP | {"bfcl/base", "bfcl/warmup"}


def iteration(k: int) -> set[str]:
    return {*(f"iteration_{k}/{step}" for step in ("replay_buffer", "trees", "pairs", "policy")), f"bfcl/iteration_{k}"}


SHARED = {
    "without_warmup": FRONT | {"bfcl/base"},
    "mixed_warmup": FRONT | {"bfcl/base"},
    "sft_entire": {"base_model", "examples", "bfcl_cases", "bfcl/base"},
    "warmup_easy": FRONT | {"warmup/easy", "bfcl/base"},
    "warmup_medium": FRONT | {"warmup/easy", "warmup/medium", "bfcl/base"},
    "without_iterations": START,
    "without_mcts": START | {"iteration_1/replay_buffer"},
    "random_selection": START,
    "dpo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "ipo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "orpo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "cpo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "iterations_1": START | iteration(1),
    "iterations_2": START | iteration(1) | iteration(2),
    "self_evaluation_off": START | {"iteration_1/replay_buffer"},
    "self_evaluation_sampled": START | {"iteration_1/replay_buffer"},
    "gold_guided": START | {"iteration_1/replay_buffer"},
    "true_pairs": START | {"iteration_1/replay_buffer", "iteration_1/trees"},
    "by_mistakes": START,
    "by_mistake_types": START,
    "rejection_sampling": START | {"iteration_1/replay_buffer"},
    "grpo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "relative_q": START | {"iteration_1/replay_buffer", "iteration_1/trees"},
}
"""What each ablation takes from `bfcl_half` without making it again."""

LOSSES = ("dpo", "ipo", "orpo", "cpo")

ITERATIONS = {
    **dict.fromkeys(("sft_entire", "warmup_easy", "warmup_medium", "without_iterations"), 0),
    "iterations_1": 1,
    "iterations_2": 2,
}


def fingerprints(name: str) -> dict[str, str]:
    return {asset: planned.fingerprint for asset, planned in plan(load_experiment(name)).items()}


def shared(one: str, other: str) -> set[str]:
    ours, theirs = fingerprints(one), fingerprints(other)
    return {asset for asset in ours if ours[asset] == theirs.get(asset)}


@pytest.mark.parametrize("name", SHARED)
def test_an_ablation_shares_all_that_it_does_not_change(name: str) -> None:
    assert shared(name, "bfcl_half") == SHARED[name]


def test_all_of_bfcl_is_scored_without_training_anything_again() -> None:
    asked, ours = load_experiment("bfcl_whole").evaluation.bfcl, set(fingerprints("bfcl_whole"))
    assert asked is not None
    assert set(asked.categories) == {*BFCL_SINGLE_TURN, *BFCL_MULTI_TURN}
    assert asked.cases_per_category is None
    scored = {asset for asset in ours if asset.startswith("bfcl/")}
    assert shared("bfcl_whole", "demo") == ours - scored - {"report"}


def test_ablations_share_with_each_other() -> None:
    assert shared("without_warmup", "mixed_warmup") == FRONT | {"bfcl/base", "warmup/easy", "warmup/medium"}
    assert shared("sft_entire", "mixed_warmup") == {"base_model", "examples", "bfcl_cases", "bfcl/base"} | WARMUP - {
        "warmup/hard"
    }
    assert shared("dpo", "orpo") == SHARED["dpo"]


@pytest.mark.parametrize("name", SHARED)
def test_an_ablation_extends_bfcl_half_and_says_what_it_is_for(name: str) -> None:
    content = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    assert content["extends"] == "bfcl_half"
    assert any(place in content["description"] for place in ("Table ", "Fig. ", "Sec. ", "App. ", "Eq. "))
    assert load_experiment(name).iterations == ITERATIONS.get(name, 3)


def test_the_ablations_are_what_their_names_say() -> None:
    e = {name: load_experiment(name) for name in SHARED}
    assert (e["without_warmup"].warmup.curriculum, e["mixed_warmup"].warmup.curriculum) == ("none", "mixed")
    stages = [e[name].warmup.curriculum for name in ("warmup_easy", "warmup_medium", "without_iterations")]
    assert stages == ["easy", "easy_to_medium", "easy_to_hard"]
    base_sft = e["sft_entire"]
    assert (base_sft.split.validation_fraction, base_sft.warmup.curriculum, base_sft.iterations) == (0.0, "mixed", 0)
    drawn, half = e["without_mcts"].search, load_experiment("bfcl_half").search
    assert isinstance(drawn, SamplingConfig)
    assert drawn.responses == 4
    assert {key: getattr(drawn, key) for key in SearchBase.model_fields} == {
        key: getattr(half, key) for key in SearchBase.model_fields
    }
    assert e["random_selection"].replay_buffer.select_by == "random"
    assert [e[name].preference.loss.type for name in LOSSES] == list(LOSSES)
    with_reference = [e[name].preference.loss for name in ("dpo", "ipo")]
    assert {loss.reference for loss in with_reference if isinstance(loss, ReferenceLoss)} == {"start"}
    assert {e[name].preference.loss.beta for name in LOSSES} == {0.1}
    by_grpo = e["grpo"].preference
    assert by_grpo.loss == Grpo(type="grpo", generations=8, beta=0.0, budget="search")
    assert by_grpo.optimizer == load_experiment("bfcl_half").preference.optimizer
    assert isinstance(e["self_evaluation_off"].search.self_evaluation, NoGrades)
    assert e["self_evaluation_sampled"].search.self_evaluation == SampledGrades(type="sampled", samples=4)


def test_every_file_is_a_partition() -> None:
    assert set(SHARED) | {"bfcl_half", "bfcl_whole", "demo", "toolace"} <= set(experiment_names())
    assert list(experiments.get_partition_keys()) == experiment_names()


def test_the_weekly_schedule_can_run_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SHARED:
        (tmp_path / f"weekly_{name}.yaml").write_text(f"extends: {name}\nscheduled: true\n")
    monkeypatch.setenv("ITOOL_EXPERIMENTS", str(tmp_path))
    when = datetime(2025, 3, 2, 3, 0, tzinfo=UTC)
    requests = list(cast(Any, weekly(dg.build_schedule_context(scheduled_execution_time=when))))
    assert [request.partition_key for request in requests] == [f"weekly_{name}" for name in sorted(SHARED)]


def test_the_check_command_takes_them_all() -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "itool_pipeline", "check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert told == [f"ok  {name}" for name in experiment_names()]

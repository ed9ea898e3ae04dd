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
    HubModel,
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
    "iterations_5": START | iteration(1) | iteration(2) | iteration(3),
    **{f"{kind}_{share}": FRONT - {"splits"} | {"bfcl/base"} for kind in ("sft", "data") for share in (10, 30, 60)},
    "self_evaluation_off": START | {"iteration_1/replay_buffer"},
    "self_evaluation_sampled": START | {"iteration_1/replay_buffer"},
    "guided": START,
    "gold_guided": START | {"iteration_1/replay_buffer"},
    "true_pairs": START | {"iteration_1/replay_buffer", "iteration_1/trees"},
    "by_mistakes": START,
    "by_mistake_types": START,
    "rejection_sampling": START | {"iteration_1/replay_buffer"},
    "continued_sft": START,
    "grpo": START | {"iteration_1/replay_buffer", "iteration_1/trees", "iteration_1/pairs"},
    "relative_q": START | {"iteration_1/replay_buffer", "iteration_1/trees"},
}
"""What each ablation takes from `bfcl_half` without making it again."""

LOSSES = ("dpo", "ipo", "orpo", "cpo")

ITERATIONS = {
    **dict.fromkeys(("sft_entire", "warmup_easy", "warmup_medium", "without_iterations"), 0),
    **dict.fromkeys(("sft_10", "sft_30", "sft_60"), 0),
    "iterations_5": 5,
    "continued_sft": 1,
}

PAPER = (
    *("without_warmup", "without_iterations", "sft_entire", "sft_10", "sft_30", "sft_60", "data_10", "data_30"),
    *("data_60", "warmup_easy", "warmup_medium", "iterations_5", "dpo", "ipo", "orpo"),
)
"""Rows of tables and points of figures on the paper's own data and model, beside `toolace` and its `without_mcts`."""

OTHER_DATA_AND_MODELS = {
    "toolace_llama_3b": ("toolace", "Llama-3.2-3B-Instruct", ("sft_entire", "sft_10", "sft_30", "sft_60")),
    "toolace_qwen_7b": ("toolace", "Qwen2.5-7B-Instruct", ("sft_entire",)),
    "xlam": ("xlam", "Llama-3.1-8B-Instruct", ("sft_entire",)),
    "xlam_llama_3b": ("xlam", "Llama-3.2-3B-Instruct", ("sft_entire",)),
    "bfcl_live": ("bfcl_half", "Llama-3.1-8B-Instruct", ("sft_entire",)),
    "bfcl_live_llama_3b": ("bfcl_half", "Llama-3.2-3B-Instruct", ("sft_entire",)),
}
"""Table 4 and 5: experiment → data, model, ablations."""


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
    assert shared("bfcl_whole", "demo") == ours - scored - {"champion", "report"}


def test_ablations_share_with_each_other() -> None:
    assert shared("without_warmup", "mixed_warmup") == FRONT | {"bfcl/base", "warmup/easy", "warmup/medium"}
    assert shared("sft_entire", "mixed_warmup") == {"base_model", "examples", "bfcl_cases", "bfcl/base"} | WARMUP - {
        "warmup/hard"
    }
    assert shared("dpo", "orpo") == SHARED["dpo"]


@pytest.mark.parametrize("name", SHARED)
def test_an_ablation_extends_bfcl_half_and_says_what_it_is_for(name: str) -> None:
    content = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    assert content["extends"] == ("sft_entire" if name.startswith("sft_") and name != "sft_entire" else "bfcl_half")
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


@pytest.mark.parametrize("name", PAPER)
def test_an_ablation_of_the_papers_size_changes_what_the_embedded_one_does(name: str) -> None:
    def without_names(experiment: str) -> dict[str, Any]:
        return load_experiment(experiment).model_dump(exclude={"name", "description", "ablations"})

    small, large = (
        _changes(without_names(base), without_names(changed))
        for base, changed in (
            ("bfcl_half", name),
            ("toolace", f"toolace__{name}"),
        )
    )
    assert small == large
    assert load_experiment(f"toolace__{name}").description == f"toolace - {load_experiment(name).description}"


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The keys of `after` that are not as before; of sections, those within."""
    return {
        key: _changes(before[key], value) if isinstance(value, dict) and isinstance(before.get(key), dict) else value
        for key, value in after.items()
        if before.get(key, ...) != value
    }


def test_without_mcts_samples_as_the_papers_size_searches() -> None:
    drawn, whole = load_experiment("toolace__without_mcts").search, load_experiment("toolace").search
    assert isinstance(drawn, SamplingConfig)
    assert {key: getattr(drawn, key) for key in SearchBase.model_fields} == {
        key: getattr(whole, key) for key in SearchBase.model_fields
    }


@pytest.mark.parametrize(("name", "expected"), OTHER_DATA_AND_MODELS.items())
def test_other_data_and_models(name: str, expected: tuple[str, str, tuple[str, ...]]) -> None:
    e = load_experiment(name)
    assert isinstance(e.model, HubModel)
    assert (e.data.type, e.model.name.split("/")[1], e.ablations) == expected
    usual = load_experiment("toolace")
    assert (e.warmup, e.search, e.pairs, e.preference) == (usual.warmup, usual.search, usual.pairs, usual.preference)
    for ablation in e.ablations:
        assert load_experiment(f"{name}__{ablation}").model == e.model


def test_a_share_of_the_data_reads_all_of_it_once_and_shares_the_rest_with_none() -> None:
    assert [
        load_experiment(f"{kind}_{share}").split.train_fraction for kind in ("sft", "data") for share in (10, 30, 60)
    ] == [0.1, 0.3, 0.6] * 2
    passed_on = {"warmup/easy", "warmup/medium"}
    assert shared("sft_10", "sft_60") == {"base_model", "examples", "bfcl_cases", "bfcl/base"} | passed_on


def test_every_file_and_every_ablation_is_a_partition() -> None:
    others = {f"{name}__{ablation}" for name, (_, _, listed) in OTHER_DATA_AND_MODELS.items() for ablation in listed}
    assert set(experiment_names()) == {
        *SHARED,
        *OTHER_DATA_AND_MODELS,
        *others,
        *(f"toolace__{name}" for name in (*PAPER, "without_mcts")),
        "bfcl_half",
        "bfcl_whole",
        "demo",
        "toolace",
    }
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

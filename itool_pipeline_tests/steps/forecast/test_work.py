"""Tokens and FLOP of tiny steps by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import OptimizerConfig
from itool_pipeline.steps.forecast.flops import ModelSize
from itool_pipeline.steps.forecast.material import Basis, Items, Material
from itool_pipeline.steps.forecast.work import (
    StepWork,
    expected_nodes,
    read_and_answered,
    step_work,
    trained,
    tree_limit,
)
from itool_pipeline.store.manifest import Artifact, Manifest
from itool_pipeline_tests.steps.by_hand import experiment

SIZE = ModelSize(parameters=100, layers=2, heads=3, head_width=5, hidden=7, vocabulary=11, adapter=13)
"""A column: 2 · 100 FLOP; a token that it sees: 4 · 2 · 3 · 5; a place with logits: 2 · 7 · 11."""
COLUMN, SEEN, LOGITS = 200, 120, 154


def material(**over: Any) -> Material:
    """Ten examples of five and two tokens to warm up with in each stage, ten buffered, one that validates."""
    ten = Items(10, 5, 2)
    parts = {"stages": dict.fromkeys(("easy", "medium", "hard"), ten), "validation": ten.part(1), "buffer": ten}
    rest = {"grade": 4.0, "cases": {"bfcl": ten}, "basis": Basis((), ())}
    return Material(**{**parts, **rest, **over})


def nothing(asset: str) -> None:
    return None


def test_prompts_are_read_with_each_beginning_once_and_answers_see_all_of_theirs() -> None:
    # Two prompts of 4, of which 2 are shared: 2 columns see 3 and 4. Then 3 columns see 5, 6 and 7, each with logits.
    found = read_and_answered(SIZE, Items(2, 4, 0, distinct=0.5), 3)
    flops = 2 * (5 * COLUMN + (3 + 4 + 5 + 6 + 7) * SEEN + 3 * LOGITS)
    assert found == StepWork(reads=8, generates=6, trains=0, flops=flops, row=7)
    assert read_and_answered(SIZE, Items(2, 4, 0, 0.5), 3, scored=True) == StepWork(14, 0, 0, flops, 7)


def test_a_training_passes_backward_too_and_shares_what_all_prompts_of_a_step_begin_with() -> None:
    # Four texts of 5 and 2 in two steps: half of the 4 common tokens are computed, so 5 columns a text, behind 2.
    optimizer = OptimizerConfig(learning_rate=1.0, batch_size=2, epochs=2)
    found = trained(SIZE, Items(4, 5, 2, common=4), optimizer, Items(1, 5, 2))
    dense, attention = 5 * COLUMN + 2 * LOGITS, (3 + 4 + 5 + 6 + 7) * SEEN
    text = 2 * dense + 3 * attention + 6 * 13 * 5
    held = 7 * COLUMN + (1 + 2 + 3 + 4 + 5 + 6 + 7) * SEEN + 2 * LOGITS
    # Validated before the first step and after each of two epochs.
    assert found == StepWork(0, 0, 4 * 7 * 2, 4 * 2 * text + 3 * held, 7)
    assert trained(SIZE, Items(0, 5, 2), optimizer, Items(1, 5, 2)) == StepWork()


def test_validation_goes_by_validate_every_where_that_is_more_often() -> None:
    often = OptimizerConfig(learning_rate=1.0, batch_size=2, epochs=1, validate_every=1)
    rarely = often.model_copy(update={"validate_every": 100})
    more = trained(SIZE, Items(8, 5, 2), often, Items(1, 5, 2)).flops
    held = 7 * COLUMN + 28 * SEEN + 2 * LOGITS
    # 4 steps: 1 + 4 validations, and 1 + 1.
    assert more - trained(SIZE, Items(8, 5, 2), rarely, Items(1, 5, 2)).flops == 3 * held


def test_nodes_of_a_tree() -> None:
    paper = experiment(search={"type": "mcts", "iterations": 5, "simulation": 2, "width": 3}).search
    assert tree_limit(paper) == 5 * (1 + 2) * 3
    assert expected_nodes(paper) == pytest.approx(0.37 * 45)
    sound = experiment(search={"iterations": 5, "simulation": 2, "width": 3, "expand": "sound"}).search
    assert expected_nodes(sound) == pytest.approx(0.11 * 45)
    assert expected_nodes(experiment(search={"type": "sampling", "responses": 6}).search) == 6


def test_a_search_reads_draws_and_grades() -> None:
    search = {"iterations": 5, "simulation": 2, "width": 3, "samples": 6, "self_evaluation": {"type": "none"}}
    e = experiment(iterations=1, replay_buffer={"top_fraction": 0.2}, search=search)
    found = step_work(e, SIZE, material(), "iteration_1/trees", nothing)
    assert found is not None
    # Two of ten examples; twice as many fragments are drawn as nodes are kept.
    assert found.reads == 2 * 5
    assert found.generates == pytest.approx(2 * (0.37 * 45) * 2 * 6.5)
    graded = experiment(iterations=1, replay_buffer={"top_fraction": 0.2}, search=search | {"self_evaluation": {}})
    more = step_work(graded, SIZE, material(), "iteration_1/trees", nothing)
    assert more is not None
    assert more.generates == found.generates
    # Every node's fragment, with the 4 tokens around it, behind the prompt that grades.
    assert more.reads - found.reads == pytest.approx(2 * (5 + 0.37 * 45 * (6.5 + 4)))


def test_the_base_model_answers_to_the_limit_and_others_as_gold_answers_do() -> None:
    e = experiment(iterations=0, evaluation={"bfcl": {"max_new_tokens": 50}})
    base = step_work(e, SIZE, material(), "bfcl/base", nothing)
    assert base is not None
    assert base.generates == 10 * 50
    warm = step_work(e, SIZE, material(), "bfcl/warmup", nothing)
    assert warm is not None
    assert warm.generates == 10 * 2


def test_thoughts_are_as_long_as_they_may_get_and_answers_are_given_them() -> None:
    search = {"self_evaluation": {"type": "none"}}
    e = experiment(
        iterations=1,
        prompt={"thinking": True, "max_thinking_tokens": 3},
        replay_buffer={"top_fraction": 0.2},
        search=search,
        evaluation={"bfcl": {"max_new_tokens": 50}},
    )
    # Prompts of 5 are read to think 3 tokens about them, and then with these, before answers of 2 that are there.
    buffer = step_work(e, SIZE, material(), "iteration_1/replay_buffer", nothing)
    assert buffer is not None
    assert (buffer.reads, buffer.generates) == (10 * 5 + 10 * (5 + 3 + 2), 10 * 3)
    trees = step_work(e, SIZE, material(), "iteration_1/trees", nothing)
    assert trees is not None
    assert trees.reads == 2 * (5 + 3)
    scores = step_work(e, SIZE, material(), "bfcl/warmup", nothing)
    assert scores is not None
    assert (scores.reads, scores.generates) == (10 * 5 + 10 * (5 + 3), 10 * (3 + 2))
    assert Items(4, 6, 2, distinct=0.5).behind(3) == Items(4, 9, 2, distinct=(3 + 3) / 9)
    assert step_work(e, SIZE, material(), "report", nothing) is None


def test_pairs_that_are_there_say_how_many_they_are() -> None:
    optimizer = {"learning_rate": 1.0, "epochs": 2}
    e = experiment(iterations=1, preference={"loss": {"type": "simpo"}, "optimizer": optimizer})
    names = dict.fromkeys(("asset", "fingerprint", "code_version", "run_id", "created_at"), "")
    found_there = {"trees": 8, "kept": 6, "trees_with_pairs": 4}
    rest = {"inputs": {}, "config": None, "metadata": found_there, "files": {}, "seconds": 1.0}
    manifest = Manifest.model_validate({**names, **rest})
    there = Artifact("iteration_1/pairs", "", Path(), manifest)
    found = step_work(e, SIZE, material(), "iteration_1/policy", lambda asset: there)
    assert found is not None
    # Four rows with the prompt of their tree, and 25 tokens for each of six pairs; two epochs.
    assert found.trains == pytest.approx(2 * (4 * 5 + 6 * 25))
    with_reference = experiment(iterations=1, preference={"loss": {"type": "dpo"}, "optimizer": optimizer})
    more = step_work(with_reference, SIZE, material(), "iteration_1/policy", lambda asset: there)
    assert more is not None
    assert more.trains == found.trains
    # 5 + 37.5 tokens a row, rounded to the even: 42 columns and 38 logits each, once without gradients.
    assert more.flops - found.flops == pytest.approx(4 * (42 * COLUMN + 42 * 43 // 2 * SEEN + 38 * LOGITS))


def test_rehearsal_adds_the_gold_answers_that_gave_no_pair() -> None:
    preference = {"gold_weight": 1.0, "rehearse": True, "optimizer": {"learning_rate": 1.0, "epochs": 1}}
    e = experiment(iterations=1, replay_buffer={"top_fraction": 0.5}, preference=preference)
    found = step_work(e, SIZE, material(), "iteration_1/policy", nothing)
    assert found is not None
    # 5 trees give 0.45 pairs each, so at most 2.25 of them any; 30 examples were warmed up with.
    assert found.trains == pytest.approx(30 * (5 + 2) + 5 * 0.45 * 25)


@pytest.mark.parametrize(
    ("loss", "tokens"),
    [
        ({"type": "sft"}, 30 * 7 * 2),  # all that was warmed up with, in two epochs
        ({"type": "rejection_sampling", "answers_per_tree": 3}, 1 * 3 * 7 * 2),  # three answers of one tree
        ({"type": "grpo", "generations": 2, "budget": 40}, 20 * 7),  # 40 tokens are 20 answers, each once
    ],
)
def test_what_stands_in_the_place_of_pairs(loss: dict[str, Any], tokens: float) -> None:
    preference = {"loss": loss, "optimizer": {"learning_rate": 1.0, "epochs": 2}}
    e = experiment(iterations=1, replay_buffer={"top_fraction": 0.1}, preference=preference)
    found = step_work(e, SIZE, material(), "iteration_1/policy", nothing)
    assert found is not None
    assert found.trains == pytest.approx(tokens)


def test_steps_without_the_model_and_stages_that_pass_on() -> None:
    e = experiment(iterations=1, warmup={"curriculum": "easy"})
    for asset in ("base_model", "examples", "splits", "bfcl_cases", "iteration_1/pairs", "report"):
        assert step_work(e, SIZE, material(), asset, nothing) is None
    assert step_work(e, SIZE, material(), "warmup/hard", nothing) == StepWork()
    easy = step_work(e, SIZE, material(), "warmup/easy", nothing)
    assert easy is not None
    assert easy.trains == 10 * 7

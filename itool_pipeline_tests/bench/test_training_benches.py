"""Every contender minimises the same loss on the same tokens; only what it computes them by is its own."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.config import OptimizerConfig, SimpoLoss
from itool_pipeline.steps.forecast.flops import Work
from itool_pipeline.training.items import PreferenceRow, SftItem, TokenPair
from itool_pipeline.training.preference import preference_objective
from itool_pipeline.training.sft import SFT
from itool_pipeline_tests.bench.own_training import play_training
from itool_pipeline_tests.bench.plain_simpo import branches, play_plain_simpo
from itool_pipeline_tests.bench.sft import sft_work
from itool_pipeline_tests.bench.training import SHAPES
from itool_pipeline_tests.bench.worker import Figures, Finished, Turns
from itool_pipeline_tests.training.conftest import AdaptedModel

LOSS = SimpoLoss()
RATE = 0.01
ROWS = [
    PreferenceRow("a", (5, 6, 7, 8), (TokenPair((), (100, 101), (102, 103, 104)), TokenPair((100,), (105,), (106,)))),
    PreferenceRow("b", (9, 10), (TokenPair((108,), (109,), (110, 111)), TokenPair((), (112, 113), (114,)))),
]
ITEMS = [SftItem("a", (5, 6, 7), (100, 101, 2)), SftItem("b", (8,), (102, 2)), SftItem("c", (5, 5), (103, 2))]


def played(rounds: int, play: Callable[[Turns], None]) -> list[Figures]:
    """The figures of so many rounds."""
    said = io.StringIO()
    with pytest.raises(Finished):
        play(Turns(io.StringIO("go\n" * rounds), said))
    return [json.loads(line) for line in said.getvalue().splitlines()[1:]]


def ours(model: Any, rounds: int) -> list[Figures]:
    optimizer = OptimizerConfig(learning_rate=RATE, batch_size=4)
    return played(rounds, lambda turns: play_training(model, ROWS, preference_objective(LOSS), optimizer, 1, turns))


def test_ours_and_plain_have_one_loss_and_learn_alike(adapted_model: AdaptedModel) -> None:
    own = ours(adapted_model(), 3)
    plain = played(3, lambda turns: play_plain_simpo(adapted_model(), ROWS, LOSS, RATE, 4096, turns))
    assert [f["loss"] for f in own] == pytest.approx([f["loss"] for f in plain], rel=1e-3)
    assert own[2]["loss"] < own[0]["loss"]


def test_a_bound_on_the_tokens_of_a_pass_does_not_change_the_loss(adapted_model: AdaptedModel) -> None:
    wide, narrow = (
        played(1, lambda turns, n=tokens: play_plain_simpo(adapted_model(), ROWS, LOSS, RATE, n, turns))[0]["loss"]  # type: ignore[misc]
        for tokens in (4096, 1)
    )
    assert wide == pytest.approx(narrow, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pass_tokens", [4096, 30])
def test_trl_has_our_loss(adapted_model: AdaptedModel, tiny_model_dir: Path, tmp_path: Path, pass_tokens: int) -> None:
    trainers = pytest.importorskip("itool_pipeline_tests.bench.trl_trainers", reason="TRL is a development dependency")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model, where = adapted_model(), str(tmp_path)
    trl = played(2, lambda turns: trainers.play_simpo(model, tokenizer, ROWS, LOSS, RATE, pass_tokens, where, turns))
    own = ours(adapted_model(), 2)
    assert trl[0]["loss"] == pytest.approx(own[0]["loss"], rel=1e-3)
    assert trl[1]["loss"] < trl[0]["loss"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trls_fine_tuning_has_our_loss(adapted_model: AdaptedModel, tiny_model_dir: Path, tmp_path: Path) -> None:
    trainers = pytest.importorskip("itool_pipeline_tests.bench.trl_trainers", reason="TRL is a development dependency")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    model, where = adapted_model(), str(tmp_path)
    trl = played(2, lambda turns: trainers.play_sft(model, tokenizer, ITEMS, RATE, 3, where, turns))
    optimizer = OptimizerConfig(learning_rate=RATE, batch_size=3)
    own = played(2, lambda turns: play_training(adapted_model(), ITEMS, SFT, optimizer, 1, turns))
    assert trl[0]["loss"] == pytest.approx(own[0]["loss"], rel=1e-3)
    assert own[1]["loss"] < own[0]["loss"]


def test_trls_columns_are_those_that_it_makes_of_texts() -> None:
    trainers = pytest.importorskip("itool_pipeline_tests.bench.trl_trainers", reason="TRL is a development dependency")
    first, second, *_ = trainers.simpo_columns(ROWS)
    assert first["chosen_input_ids"] == [5, 6, 7, 8, 100, 101]
    assert first["rejected_labels"] == [-100, -100, -100, -100, 102, 103, 104]
    assert second["prompt_input_ids"] == [5, 6, 7, 8, 100]
    assert second["chosen_labels"] == [-100] * 5 + [105]


def test_each_branch_is_a_row_with_prompt_and_path_before_it() -> None:
    assert list(branches(ROWS))[2] == (((9, 10, 108), (109,)), ((9, 10, 108), (110, 111)))


def test_fine_tuning_needs_each_token_but_the_last_and_the_logits_of_responses() -> None:
    assert sft_work(ITEMS[:1]) == Work(columns=5, seen=15, logits=3)


def test_shapes_are_those_that_are_reported() -> None:
    assert [shape.name for shape in SHAPES] == ["400/12/4", "2000/32/8", "64/64/1", "demo"]

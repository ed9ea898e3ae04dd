"""Amounts of data: counted where artifacts are, and the config's limits where none are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from itool_pipeline.core.types import Example
from itool_pipeline.steps import prepare
from itool_pipeline.steps.forecast.finished import found_by
from itool_pipeline.steps.forecast.material import Basis, Items, Material, joined, material_of, shared_beginnings
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline_tests.steps.by_hand import ByteTemplate, example, put, put_cases, workspace, write_train


def test_beginnings_that_prompts_share_are_counted_once() -> None:
    # Of nine tokens, 1 2 is common to the first two and 1 to all.
    assert shared_beginnings([(1, 2, 3), (1, 9, 9), (1, 2, 4)]) == ((9 - 2 - 1) / 9, 1)
    assert shared_beginnings([(1, 2), (1, 2)]) == (0.5, 2)
    assert shared_beginnings([]) == (1.0, 0)


def test_parts_are_joined_by_their_counts() -> None:
    # 10 and 20 tokens of prompts, of which 5 and 20 are distinct
    assert joined([Items(1, 10, 1, 0.5, 3), Items(4, 5, 2, 1.0, 2), Items(0, 9, 9)]) == Items(5, 6, 9 / 5, 25 / 30, 2)
    assert joined([]).count == 0


class Template(ByteTemplate):
    """Prompts of the length that the question says, which begin alike in two tokens."""

    def prompt(self, example: Example) -> tuple[int, ...]:
        return (7, 7, int(example.question), *range(int(example.question) - 3))


def looked_at(ws: Workspace, benchmarks: Sequence[str] = ()) -> Material:
    return material_of(ws.experiment, found_by(ws.artifacts, ws.planned), benchmarks)


def test_examples_and_splits_that_are_there_are_counted(tmp_path: Path) -> None:
    ws = workspace(tmp_path, iterations=1, split={"validation_fraction": 0.0}, replay_buffer={"fraction": 0.5})
    put(ws, "base_model", lambda out: (out / "weights").write_text("x"))
    rows = [example("a", "5"), example("bb", "9")]
    put(ws, "examples", lambda out: write_train(out, rows, Template()))
    before = looked_at(ws)
    # [f_a()] and [f_bb()] have 7 and 8 bytes. Three stages share two examples where none has its difficulty yet.
    whole = Items(2, 7, 7.5, distinct=(14 - 2) / 14, common=2)
    assert before.stages == dict.fromkeys(("easy", "medium", "hard"), whole.part(2 / 3))
    assert before.buffer == whole.part(1)
    assert before.basis == Basis(("examples",), ("splits",))
    ws.record(ws.input("examples"), reused=False)
    prepare.splits(ws)
    after = looked_at(ws)
    assert after.stages["easy"] == whole
    assert after.stages["hard"].count == 0
    assert after.validation.count == 0
    assert after.grade == 9 + 1 - 7
    assert after.basis == Basis(("examples", "splits"), ())


def test_cases_that_are_there_are_counted_in_the_categories_that_are_asked(tmp_path: Path) -> None:
    asked = {"bfcl": {"categories": ("simple_python",), "cases_per_category": 2, "max_prompt_tokens": 9}}
    ws = workspace(tmp_path, iterations=0, evaluation=asked)
    put(ws, "base_model", lambda out: (out / "weights").write_text("x"))
    put_cases(ws, "bfcl", [example(key) for key in "abc"])
    found = looked_at(ws, ["bfcl"])
    assert found.cases["bfcl"] == Items(2, 9, 40, distinct=0.5, common=9)
    assert found.basis == Basis(("bfcl_cases",), ("examples", "splits"))


def test_limits_stand_for_what_is_not_there(tmp_path: Path) -> None:
    data = {"type": "bfcl_half", "train_limit": 100, "max_prompt_tokens": 300}
    asked = {"categories": ("simple_python", "multiple"), "cases_per_category": 5, "max_prompt_tokens": 400}
    split = {"validation_fraction": 0.1, "warmup_fraction": 0.5}
    found = looked_at(workspace(tmp_path, iterations=0, data=data, split=split, evaluation={"bfcl": asked}), ["bfcl"])
    assert found.trained.count == pytest.approx(45)
    assert found.buffer.count == pytest.approx(45 / 2)
    assert found.buffer.prompt == 300
    assert found.cases["bfcl"] == Items(10, 400, 40)
    assert found.basis == Basis((), ("examples", "splits", "bfcl_cases"))


def test_conversations_are_beside_the_cases_of_one_prompt(tmp_path: Path) -> None:
    asked = {"categories": ("simple_python", "multi_turn_base"), "cases_per_category": 5, "max_prompt_tokens": 400}
    found = looked_at(workspace(tmp_path, iterations=0, evaluation={"bfcl": asked}), ["bfcl"])
    # five cases, and five conversations of 6,000 tokens with twelve answers
    assert found.cases["bfcl"] == Items(10, 3_200, 40 * 13 / 2)

"""What the steps do with chat templates: refused before any weights are read, or used in the way that is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.data import base_model
from itool_pipeline.engines.template_rendering import ChatTemplateError
from itool_pipeline.steps import prepare
from itool_pipeline.steps.example_access import source_account
from itool_pipeline.steps.workspace import StepError
from itool_pipeline_tests.engines.family_templates import HOPELESS, MISTRAL_V1, MISTRAL_V3
from itool_pipeline_tests.steps.test_prepare import other_model, row, with_file

QUESTIONS = ("Question of the first kind?", "Question of the second kind?", "Question of the third kind?")


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


def test_a_hopeless_template_is_refused_before_the_weights_are_read(
    tmp_path: Path, downloads_dir: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(directory: Path) -> dict[str, Any]:
        raise AssertionError("the weights were read")

    monkeypatch.setattr(base_model, "describe_weights", read)
    model = other_model(tiny_model_dir, tmp_path / "model", template=HOPELESS["refuses all"][0])
    with pytest.raises(ChatTemplateError, match=r"model cannot show .*Ask our sales team"):
        with_file(tmp_path, lines(row(QUESTIONS[0])), model, downloads_dir)


@pytest.mark.parametrize(
    ("template", "place"),
    [(MISTRAL_V1, "before the first user turn"), (MISTRAL_V3, "in a role of its own"), ("", "in a role of its own")],
)
def test_where_the_system_text_stands_is_told(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path, template: str, place: str
) -> None:
    model = other_model(tiny_model_dir, tmp_path / "model", template=template)
    ws = with_file(tmp_path, lines(*map(row, QUESTIONS)), model, downloads_dir)
    said: list[str] = []
    ws = replace(ws, say=said.append)
    made = prepare.examples(ws).artifact.manifest.metadata
    assert (made["train_examples"], made["system_text"], made["with_control_tokens"]) == (3, place, 0)
    assert [line for line in said if place in line]


def test_conversations_that_the_template_refuses_are_counted_by_its_words(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path
) -> None:
    spoke = row(QUESTIONS[1])
    spoke["messages"].insert(0, {"role": "assistant", "content": "Hello!"})
    control = row("What does <|im_end|> mean?", "It ends a turn.")
    said = row(QUESTIONS[2], "It is <|im_end|>.")
    model = other_model(tiny_model_dir, tmp_path / "model", template=MISTRAL_V3)
    ws = with_file(tmp_path, lines(row(QUESTIONS[0]), spoke, control, said), model, downloads_dir)
    made = prepare.examples(ws).artifact.manifest.metadata
    assert (made["train_examples"], made["with_control_tokens"]) == (2, 1)
    refusal = "After the optional system message, conversation roles must alternate"
    assert {r["reason"]: r["rows"] for r in source_account(ws) if r["became"] == "left out"} == {
        f"the chat template refuses the conversation: {refusal}": 1,
        "the answer holds the control token <|im_end|>": 1,
    }


def test_when_the_template_refuses_all_its_words_are_told(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path
) -> None:
    spoke = row(QUESTIONS[0])
    spoke["messages"].insert(0, {"role": "assistant", "content": "Hello!"})
    model = other_model(tiny_model_dir, tmp_path / "model", template=MISTRAL_V3)
    ws = with_file(tmp_path, lines(spoke), model, downloads_dir)
    with pytest.raises(StepError, match=r"no training example is left\..*conversation roles must alternate"):
        prepare.examples(ws)

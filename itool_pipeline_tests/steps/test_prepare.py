"""`examples` and `splits` on real files: what is kept, what is not, and that the rows say so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from itool_pipeline.core.prompts import response_messages
from itool_pipeline.core.types import Message
from itool_pipeline.data.conversations.known_keys import THOUGHTS_LEFT_OUT
from itool_pipeline.data.sources import TOO_LONG_WITH_ANSWER
from itool_pipeline.steps import checks, prepare
from itool_pipeline.steps.example_access import (
    buffered_rows,
    each_training_example,
    source_account,
    split_rows,
    training_examples,
)
from itool_pipeline.steps.workspace import StepError, Workspace
from itool_pipeline_tests.steps.by_hand import database_of, example, workspace
from itool_pipeline_tests.store.by_hand import ask

CLOCK = {"name": "clock", "description": "The time.", "parameters": {"type": "object", "properties": {}}}


def row(question: str, answer: Any = "It is noon.", tools: int = 1) -> dict[str, Any]:
    named = [{**CLOCK, "name": f"clock{i}"} for i in range(tools)]
    said = {"role": "assistant", "content": answer, "reasoning": "I look at the clock."}
    return {"messages": [{"role": "user", "content": question}, said], "tools": named}


ROWS = [
    *(
        row(f"Question of the {word} kind?", tools=n)
        for n, word in enumerate(["first", "second", "third", "fourth"], 1)
    ),
    row("long " * 500),
    row("What then?", ""),
    {"messages": []},
]


@pytest.fixture(scope="module")
def ws(
    tmp_path_factory: pytest.TempPathFactory, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path
) -> Workspace:
    """A storage with the tiny model, the wheels that are there already, and what is made of the file above."""
    folder = tmp_path_factory.mktemp("prepare")
    made = with_file(folder, "".join(json.dumps(r) + "\n" for r in ROWS), tiny_model_dir, downloads_dir)
    prepare.examples(made)
    prepare.splits(made)
    return made


def other_model(tiny: Path, folder: Path, *, positions: int = 4096, template: str = "") -> Path:
    """The tiny model with another context or chat template."""
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def with_file(folder: Path, content: str, model: Path, downloads: Path) -> Workspace:
    data = folder / "own.jsonl"
    data.write_text(content)
    made = workspace(
        folder / "storage",
        model={"type": "hub", "name": str(model)},
        data={"type": "jsonl", "path": str(data), "max_prompt_tokens": 450},
        split={"validation_fraction": 0.25},
        replay_buffer={"fraction": 1.0},
    )
    made.paths.root.mkdir()
    made.paths.downloads.symlink_to(downloads.resolve())
    prepare.base_model(made)
    return made


def test_the_quarantine_and_the_account(ws: Workspace) -> None:
    made = ws.input("examples").manifest.metadata
    assert (made["train_examples"], made["quarantined"], made["tools_shown_by"]) == (4, 2, "system")
    assert made["tokenised_alone"] == 0
    assert made["changed"]["markdown"].splitlines()[2:] == [f"| {THOUGHTS_LEFT_OUT} | 6 |"]
    assert [tuple(r.values()) for r in source_account(ws) if r["source"] == "jsonl"] == [
        ("jsonl", "left out", "the prompt is longer than the limit", 1),
        ("jsonl", "quarantined", "no messages", 1),
        ("jsonl", "quarantined", "the answer is empty", 1),
        ("jsonl", "trained on", "", 4),
    ]
    assert ask(database_of(ws), "SELECT source, position, reason, excerpt FROM quarantine ORDER BY ALL") == [
        ("jsonl", "line 6, turn 1", "the answer is empty", ""),
        ("jsonl", "line 7", "no messages", '{"messages": []}'),
    ]
    found = checks.quarantine_is_small(ws)
    assert found.problems[0].startswith("28.6% of the rows of jsonl are quarantined")
    assert len(found.problems) == 1


def test_splits_hold_every_example_once(ws: Workspace) -> None:
    made = ws.input("splits").manifest.metadata
    assert (made["train_examples"], made["validation_examples"], made["unused_examples"]) == (3, 1, 0)
    assert [x.id for x in each_training_example(ws)] == list(split_rows(ws))
    assert buffered_rows(ws) == {key: row for key, row in split_rows(ws).items() if row.split == "train"}
    assert {x.question for x in each_training_example(ws)} == {r["messages"][0]["content"] for r in ROWS[:4]}
    assert list(training_examples(ws, {"jsonl_3_1"})) == ["jsonl_3_1"]
    levels = ask(
        database_of(ws),
        "SELECT example_id, difficulty, tool_count FROM examples JOIN splits USING (example_id) ORDER BY 1",
    )
    assert levels == [
        ("jsonl_1_1", "easy", 1),
        ("jsonl_2_1", "medium", 2),
        ("jsonl_3_1", "medium", 3),
        ("jsonl_4_1", "hard", 4),
    ]
    assert checks.splits_are_disjoint(ws).problems == []
    assert checks.nothing_reserved_is_trained_on(ws).problems == []


def test_a_validation_part_that_is_too_small_is_told(
    ws: Workspace, tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path
) -> None:
    assert "validation_shortfall" not in {k for k, v in ws.input("splits").manifest.metadata.items() if v is not None}
    alike = "".join(json.dumps(row("Question of the very same kind?", f"Number {i}.")) + "\n" for i in range(8))
    said: list[str] = []
    same = replace(with_file(tmp_path, alike, tiny_model_dir, downloads_dir), say=said.append)
    prepare.examples(same)
    made = prepare.splits(same).artifact.manifest.metadata
    assert (made["validation_examples"], made["train_examples"]) == (0, 8)
    assert made["validation_shortfall"].startswith("0 of 8 examples validate, where 2 were asked for")
    assert [line for line in said if line.startswith("warning: 0 of 8 examples validate")]


def test_when_nothing_is_left_the_reasons_are_told(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = with_file(tmp_path, '{"messages": []}\n[]\n', tiny_model_dir, downloads_dir)
    told = r"no training example is left\. Of the rows .* 1 of jsonl quarantined: no messages"
    with pytest.raises(StepError, match=told):
        prepare.examples(ws)
    assert ws.artifacts.find("examples", ws.planned["examples"].fingerprint) is None


@pytest.mark.parametrize("spare", [0, -1])
def test_a_prompt_whose_answer_does_not_fit_in_the_context_is_refused(
    tmp_path: Path,
    downloads_dir: Path,
    bfcl_dir: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    spare: int,
) -> None:
    """The model has as many positions as the longest of four examples has tokens, or one less."""
    rows = [
        row("Who?"),
        row("Who is it?", "It is noon, " * 20 + "and it is I."),
        row("Who is it that asks?"),
        row("You?"),
    ]
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model_dir)
    long = example("long", "Who is it?")
    asked = replace(long, tools=({"name": "clock0", "description": "The time.", "parameters": CLOCK["parameters"]},))
    turns = [Message("assistant", str(rows[1]["messages"][1]["content"]))]
    text = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in (*response_messages(asked), *turns)], tokenize=False
    )
    needed = len(tokenizer.encode(text.rstrip("\n")))
    model = other_model(tiny_model_dir, tmp_path / "model", positions=needed + spare)
    ws = with_file(tmp_path, "".join(json.dumps(r) + "\n" for r in rows), model, downloads_dir)
    if not spare:
        assert prepare.examples(ws).artifact.manifest.metadata["train_examples"] == 4
    else:
        assert prepare.examples(ws).artifact.manifest.metadata["train_examples"] == 3
        left_out = [row["rows"] for row in source_account(ws) if row["reason"] == TOO_LONG_WITH_ANSWER]
        assert left_out == [1]


def test_responses_that_join_the_prompt_are_counted(
    tmp_path: Path, downloads_dir: Path, bfcl_dir: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`](` is one token of SmolLM2's, and nothing stands between prompt and answer."""
    tight = (
        "{%- for m in messages -%}{{ '[' + m.role + ']' if m.role != 'assistant' }}{{ m.content }}"
        "{{ '<|im_end|>' if m.role == 'assistant' else '[/]' }}{%- endfor -%}"
    )
    model = other_model(tiny_model_dir, tmp_path / "model", template=tight)
    asked = ("Question of the first kind?", "Question of the second kind?", "Question of the third kind?")
    rows = [row(q, a) for q, a in zip(asked, ("(I.)", "Here.", "(Noon.)"), strict=True)]
    ws = with_file(tmp_path, "".join(json.dumps(r) + "\n" for r in rows), model, downloads_dir)
    made = prepare.examples(ws).artifact.manifest.metadata
    assert (made["train_examples"], made["tokenised_alone"]) == (3, 2)

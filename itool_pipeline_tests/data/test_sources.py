"""What of a source is trained on, and that nothing is left out without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.schema_fit import NO_SUCH_PARAMETER, NOT_IN_ENUM, OTHER_TYPE, REQUIRES_ANOTHER
from itool_pipeline.calls.types import Call
from itool_pipeline.config import BfclHalfData, DataLimits, JsonlData, ToolAceData, XlamData
from itool_pipeline.core.types import Example, Message, no_progress
from itool_pipeline.data import sources
from itool_pipeline.data.drawing import NO_PROMPT, TOO_LONG
from itool_pipeline.data.near_duplicates import signatures
from itool_pipeline.data.rows import Quarantined
from itool_pipeline.data.sources import (
    ASKED_IN_TEST,
    HELD_OUT_HALF,
    NO_ANSWER,
    NOT_ASKED_FOR,
    NOT_DRAWN,
    FileData,
    LoadedData,
    load_data,
    local_file,
)
from itool_pipeline.data.wheels import FetchError
from itool_pipeline_tests.data.examples import gathered
from itool_pipeline_tests.data.test_toolace import write
from itool_pipeline_tests.steps.by_hand import example


def words(e: Example) -> int:
    return len(e.question.split())


@pytest.fixture(scope="module")
def half(downloads_dir: Path, bfcl_dir: Path) -> LoadedData:
    data = BfclHalfData(
        categories=("simple_python", "live_simple", "irrelevance"), train_limit=90, max_prompt_tokens=40
    )
    return load_data(data, downloads_dir, seed=1, token_count=words)


def test_bfcl_half_keeps_to_its_limits(half: LoadedData) -> None:
    assert len(half.train) == 90
    assert {e.category for e in half.train} == {"simple_python", "live_simple", "irrelevance"}
    assert max(map(words, half.train)) <= 40
    assert all(e.response for e in half.train)


def test_what_is_left_out_is_counted(half: LoadedData, downloads_dir: Path) -> None:
    unlimited = load_data(
        BfclHalfData(categories=("simple_python", "live_simple", "irrelevance")), downloads_dir, seed=1
    )
    long_train = [e for e in unlimited.train if words(e) > 40]
    assert half.left_out[TOO_LONG] == len(long_train) > 0
    assert half.left_out[NOT_DRAWN] == len(unlimited.train) - len(long_train) - 90
    assert set(unlimited.left_out) == {NO_ANSWER, NOT_ASKED_FOR, HELD_OUT_HALF}
    assert {e.id for e in half.train} < {e.id for e in unlimited.train}


def balance(loaded: LoadedData) -> tuple[int, int]:
    """Examples read, and examples that were trained on or left out."""
    return loaded.read, len(list(loaded.train)) + sum(loaded.left_out.values())


def test_every_example_of_bfcl_is_accounted_for(half: LoadedData) -> None:
    assert balance(half) == (3641, 3641)


def test_a_file_is_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: how so?", "a: [plan(stops=[])]"], ["u: how so", "a: no"], ["u: how so", "a: "])
    loaded = load_data(ToolAceData(type="toolace", path=str(path)), tmp_path, seed=0)
    assert [e.response for e in loaded.train] == ["[plan(stops=[])]", "no"]
    assert {e.group for e in loaded.train} == {"toolace_0_1"}  # the same question
    assert [r.reason for r in loaded.quarantined] == ["the answer is empty"]
    assert balance(loaded) == (2, 2)


def own(folder: Path, *turns: tuple[str, str]) -> JsonlData:
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}], "tools": []}
        for q, a in turns
    ]
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonlData(type="jsonl", path=str(path))


def test_what_is_asked_in_a_test_is_not_trained_on(tmp_path: Path) -> None:
    data = own(tmp_path, ("  WHAT is it!", "no"), ("something else", "yes"))
    asked = frozenset(signatures(replace(example("c1"), messages=(Message("user", "What is it?"),))))
    loaded = load_data(data, tmp_path, seed=0, asked=asked)
    assert [e.response for e in loaded.train] == ["yes"]
    assert loaded.left_out == {ASKED_IN_TEST: 1}
    assert balance(loaded) == (2, 2)


def test_a_conversation_without_a_prompt_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: how so", "a: no"], ["u: refuse me", "a: no"], ["u: a long long question", "a: no"])

    def tokens(e: Example) -> int | None:
        return None if e.question == "refuse me" else words(e)

    data = ToolAceData(type="toolace", path=str(path), max_prompt_tokens=3)
    loaded = load_data(data, tmp_path, seed=0, token_count=tokens)
    assert [e.question for e in loaded.train] == ["how so"]
    assert loaded.left_out[NO_PROMPT] == loaded.left_out[TOO_LONG] == 1


def test_progress_is_told_for_both_readings(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: q" + 3000 * "x", "a: no"])
    heard: list[tuple[str, int, int]] = []
    loaded = load_data(
        ToolAceData(type="toolace", path=str(path)),
        tmp_path,
        seed=0,
        progress=lambda unit: lambda done, total: heard.append((unit, done, total)),
    )
    assert len(list(loaded.train)) == 1
    size = path.stat().st_size // 1000
    assert heard == [("kB of training data looked through", size, size), ("kB of training data read", size, size)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ToolAceData(type="toolace", path="/none.json"), "or remove it to ask the hub"),
        (XlamData(type="xlam", path="/none.json"), "or remove it to ask the hub"),
        (JsonlData(type="jsonl", path="/none.json"), r"none\.json\. Correct data\.path in the experiment\."),
    ],
)
def test_a_file_that_is_not_there_is_explained(data: FileData, words: str) -> None:
    with pytest.raises(FetchError, match=words):
        local_file(data)


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (ToolAceData(type="toolace"), ("Team-ACE/ToolACE", "main", "data.json")),
        (
            XlamData(type="xlam", revision="abc"),
            ("Salesforce/xlam-function-calling-60k", "abc", "xlam_function_calling_60k.json"),
        ),
    ],
)
def test_without_a_path_the_hub_is_asked_by_revision(
    monkeypatch: pytest.MonkeyPatch, data: FileData, asked: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sources, "download_dataset_file", lambda *names: Path("/".join(names)))
    assert local_file(data) == Path("/".join(asked))


WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
}
GIVEN = [
    ({"city": "Oslo", "days": 2, "unit": "C"}, ""),
    ({"city": "Oslo", "days": "2", "unit": "Celsius"}, ""),
    ({"city": 7, "days": 2.5}, ""),
    ({"town": "Oslo"}, f"{NO_SUCH_PARAMETER}: 'town' of 'weather', which has ['city', 'days', 'unit']"),
    ({"days": 2}, f"{REQUIRES_ANOTHER}: 'city' of 'weather', which is given ['days']"),
]
"""Arguments, and why they are quarantined."""


@pytest.mark.parametrize("kind", ["jsonl", "xlam"])
def test_a_parameter_with_the_name_of_a_position_is_none(tmp_path: Path, kind: str) -> None:
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"*1": {"type": "integer"}}}}
    call = {"name": "f", "arguments": {"*1": 5}}
    asked = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": call}]}]}
    row = asked if kind == "jsonl" else {"query": "q", "answers": [call]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{**row, "tools": [tool]}]))
    (found,) = sources.READERS[kind](path, no_progress)
    assert isinstance(found, Quarantined)
    assert found.reason == "gives an argument whose name would be read as a position: ['*1']"


def given_rows(kind: str) -> list[dict[str, Any]]:
    """A row for each of GIVEN, in the layout of the kind."""
    asked = [f"Question number {number}, and nothing else?" for number in range(len(GIVEN))]
    made = [{"name": "weather", "arguments": arguments} for arguments, _ in GIVEN]
    if kind == "xlam":
        return [{"query": q, "answers": [call], "tools": [WEATHER]} for q, call in zip(asked, made, strict=True)]
    if kind == "toolace":
        system = f"Here is a list of functions in JSON format that you can invoke:\n{json.dumps([WEATHER])}"
        said = [
            render_calls([Call(str(call["name"]), arguments)]) for call, (arguments, _) in zip(made, GIVEN, strict=True)
        ]
        return [
            {"system": system, "conversations": [{"from": "user", "value": q}, {"from": "assistant", "value": a}]}
            for q, a in zip(asked, said, strict=True)
        ]
    return [
        {
            "messages": [{"role": "user", "content": q}, {"role": "assistant", "tool_calls": [{"function": call}]}],
            "tools": [WEATHER],
        }
        for q, call in zip(asked, made, strict=True)
    ]


@pytest.mark.parametrize("kind", sources.READERS)
def test_calls_against_their_tools(tmp_path: Path, kind: str) -> None:
    """What names deny is quarantined, what types and enums deny is counted, whatever the data set."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(given_rows(kind)))
    data: TypeAdapter[FileData] = TypeAdapter(FileData)
    loaded = load_data(data.validate_python({"type": kind, "path": str(path)}), tmp_path, seed=0)
    assert [row.reason for row in loaded.quarantined] == [reason for _, reason in GIVEN if reason]
    assert len(loaded.train) == 3
    assert loaded.loose == {OTHER_TYPE: 3, NOT_IN_ENUM: 1}


REAL = {
    "toolace": (Path(__file__).parents[2] / "../shared/data/toolace/data.json", 900, 1051, 44),
    "xlam": (Path(__file__).parents[2] / "../shared/data/xlam/xlam_function_calling.json", 100, 99, 1),
}


@pytest.mark.parametrize("kind", REAL)
def test_every_real_row_is_an_example_or_quarantined(kind: str) -> None:
    path, rows, examples, quarantined = REAL[kind]
    if not path.exists():
        pytest.skip(f"needs the sample of {kind} in shared/data, which is not shipped")
    found = gathered(sources.READERS[kind](path, no_progress))
    assert (len(found.examples), len(found.quarantined)) == (examples, quarantined)
    seen = {int(e.id.split("_")[1]) for e in found.examples}
    seen |= {int(q.position.removeprefix("row ").partition(",")[0]) for q in found.quarantined}
    assert seen == set(range(rows)) == set(range(len(json.loads(path.read_text()))))
    assert quarantined / (examples + quarantined) < DataLimits().max_quarantined

"""The kind of a quarantined row, for every reader: the trouble without the names that only this row has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.api_bank.dialogues import DESCRIPTIONS, DIALOGUES, FOLDERS, load_api_bank
from itool_pipeline.data.bfcl import LANGUAGES, answers_file, load_bfcl, questions_file
from itool_pipeline.data.containers import file_rows
from itool_pipeline.data.conversations.chat_jsonl import chat_rows
from itool_pipeline.data.rows import Quarantined, RowError, Rows, json_object
from itool_pipeline.data.toolace import read_toolace
from itool_pipeline.data.xlam import read_xlam
from itool_pipeline_tests.data.examples import gathered

NAMES = ["f", "get_weather_2", 'it\'s: a "name" (not [1] of 2)']
USER = {"role": "user", "content": "q"}
NOWHERE = "calls what is not among the tools"
NO_PARAMETERS = "a tool has no parameters"


def toolace(folder: Path, name: str) -> Rows:
    def row(tools: Any, *turns: tuple[str, str]) -> Any:
        system = f"Here is a list of functions in JSON format that you can invoke: {json.dumps(tools)}"
        return {"system": system, "conversations": [{"from": who, "value": text} for who, text in turns]}

    tool, word = {"name": name, "parameters": {}}, "g" if name == "f" else "get_weather"
    rows = [
        row([{"name": name}]),
        row([], (name, "q")),
        row([], ("user", "q"), ("assistant", f"[{word}(a=1)]")),
        row([tool, tool], ("user", "q"), ("assistant", f"[{name}()]")),
        row([tool], ("user", "q"), ("assistant", f"[{name}(1)]")),
        row([tool], ("user", "q"), ("assistant", f"[{name}(a=]")),
    ]
    (folder / "data.json").write_text(json.dumps(rows))
    return gathered(read_toolace(folder / "data.json"))


def xlam(folder: Path, name: str) -> Rows:
    def row(tools: Any, *answers: Any) -> Any:
        return {"query": "q", "tools": tools, "answers": list(answers)}

    called = {"name": name, "arguments": {}}
    rows = [
        row([{"name": name}]),
        row([{"name": name, "parameters": {name: "int"}}]),
        row([], {"name": name, "arguments": [name]}),
        row([], called),
        row([{"name": name, "parameters": {}}] * 2, called),
        row([{"name": name, "parameters": {}}], {"name": name, "arguments": {f"{name}=": 1}}),
    ]
    (folder / "xlam.json").write_text(json.dumps(rows))
    return gathered(read_xlam(folder / "xlam.json"))


def jsonl(folder: Path, name: str) -> Rows:
    def row(*messages: Any, tools: Any = None) -> Any:
        return {"messages": [USER, *messages], "tools": tools}

    def call(arguments: Any, role: str = "assistant") -> Any:
        return {"role": role, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}

    rows = [
        row(tools=[{"name": name, "parameters": 1}]),
        row({"role": name}),
        row(call("{")),
        row(call([1])),
        row(call({}, role="system" if name == "f" else "user")),
        row(call({})),
    ]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return gathered(chat_rows(file_rows(folder / "own.jsonl")))


def bfcl(folder: Path, name: str) -> Rows:
    def row(identity: str, role: str = "user", **tool: Any) -> Any:
        tools = [{"name": name, **tool}] if tool else []
        return {"id": identity, "question": [[{"role": role, "content": "q"}]], "function": tools}

    answers_file(folder, "multiple").parent.mkdir(parents=True)
    for category in LANGUAGES:
        questions_file(folder, category).write_text("")
    good, description = {"id": f"{name}1", "ground_truth": [{name: {}}]}, {"properties": {}}
    answers = [good, {"id": "2", "ground_truth": [{name: 3}]}, {"id": "3", "ground_truth": [{name: {name: 3}}]}]
    rows = [
        row(f"{name}1", parameters=description),
        row(f"{name}1", parameters=description),
        row(f"{name}1", role=name, parameters=description),
        row(f"{name}1", parameters=3),
        row(f"{name}1"),
    ]
    answers_file(folder, "multiple").write_text("\n".join(map(json.dumps, answers)))
    questions_file(folder, "multiple").write_text("\n".join(map(json.dumps, rows)))
    return load_bfcl(folder, ("multiple",))


def api_bank(folder: Path, name: str) -> Rows:
    def call(api: str, arguments: Any) -> str:
        return json.dumps({"role": "API", "api_name": api, "param_dict": arguments, "result": {"output": "1"}})

    user = json.dumps({"role": "User", "text": "q"})
    known = {"name": name, "input_parameters": {"n": {"type": "int"}}}
    descriptions = [known, known, {"name": name}, {"name": name, "input_parameters": {name: {}}}]
    (folder / DESCRIPTIONS).write_text(json.dumps(descriptions))
    for level in FOLDERS.values():
        (folder / DIALOGUES / level).mkdir(parents=True)
    dialogues = [
        [json.dumps({"role": name})],
        [user, call(f"{name}2", {})],
        [user, call(name, {f"{name}2": 1})],
        [user, call(name, {"n": name}), call(name, {"n": [name]}), call(name, {"n": None if name == "f" else -1.5})],
    ]
    for number, lines in enumerate(dialogues):
        (folder / DIALOGUES / FOLDERS["level_1"] / f"{number}.jsonl").write_text("\n".join(lines))
    (folder / DIALOGUES / FOLDERS["level_2"] / "0.jsonl").write_text(user)
    return load_api_bank(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("read", "kinds"),
    [
        (
            toolace,
            [
                NO_PARAMETERS,
                "a turn has an unknown speaker",
                NOWHERE,
                "calls a name that more than one tool has",
                "calls with an argument that no parameter is named for",
                "writes calls as text",
            ],
        ),
        (
            xlam,
            [
                NO_PARAMETERS,
                "a parameter is not described",
                "the arguments of a call are not an object",
                NOWHERE,
                "calls a name that more than one tool has",
                "the answer does not read back as what it says",
            ],
        ),
        (
            jsonl,
            [
                "the parameters of a tool are not an object",
                "a message has an unknown role",
                "the arguments of a call are not JSON",
                "the arguments of a call are not an object",
                "calls are made by another than the assistant",
                NOWHERE,
            ],
        ),
        (
            bfcl,
            [
                "the arguments of an expected call are not a mapping",
                "a parameter has no list of accepted values",
                "a second row has the same id",
                "a message has an unknown role",
                "the parameters of a tool are not an object",
                "expected functions are not among the tools",
            ],
        ),
        (
            api_bank,
            [
                "a second description of the same API",
                "a description has no input_parameters",
                "a parameter has no type",
                "a turn is of an unknown role",
                "an API that is called has no description",
                "no API is called",
                "the gold call has parameters that its API does not have",
                *["a value is of the wrong type"] * 3,
            ],
        ),
    ],
)
def test_the_kind_is_the_trouble_whatever_the_names(
    tmp_path: Path, read: Callable[[Path, str], Rows], kinds: list[str], name: str
) -> None:
    assert [row.kind for row in read(tmp_path, name).quarantined] == kinds


def test_a_reason_without_particulars_is_its_own_kind() -> None:
    assert Quarantined("xlam", "row 1", "no query", "").kind == "no query"


@pytest.mark.parametrize("line", ['{"a": "\u2028"}', '{"a": "\u2028"}\r\n'.encode()])
def test_an_object_out_of_text_or_bytes(line: str | bytes) -> None:
    assert json_object(line) == {"a": "\u2028"}


@pytest.mark.parametrize(("line", "kind"), [(b'"\xff"', "not UTF-8"), (b"[", "not JSON"), ("3", "not a JSON object")])
def test_what_is_no_object(line: str | bytes, kind: str) -> None:
    with pytest.raises(RowError, match=rf"^{kind}(: |$)"):
        json_object(line)

"""API-Bank's first two levels (Li et al., 2023; Section 4.1): one test case for each API call of a dialogue.

Level 1 calls APIs whose descriptions are given: those that the dialogue uses. Level 2 starts with `ToolSearcher` alone
and sees the descriptions that its searches have found so far. A case's context is the dialogue up to the call, earlier
calls with their results included, as the benchmark's own evaluator builds it. It is a test set: nothing trains on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.calls.python_values import literal_value
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.rows import Quarantined, RowError, Rows, expect_that, json_object, row_excerpt
from itool_pipeline.data.streams import json_array, json_lines
from itool_pipeline.data.wheels import FetchError

SOURCE = "api_bank"
FOLDERS: Mapping[str, str] = {"level_1": "level-1-given-desc", "level_2": "level-2-toolsearcher"}
"""Level → the folder of its dialogues."""

DIALOGUES, DESCRIPTIONS = "lv1-lv2-samples", "api_descriptions.json"
SEARCH = "ToolSearcher"
_TOKEN = "GetUserToken"
"""Every search for an API that needs a token finds this one too."""

_INSTRUCTION = "It is the year 2023. Reply with exactly one call: the one that the assistant makes next."
"""The benchmark tells the model the same two things."""

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}

Description = Mapping[str, Any]
"""An API as the benchmark describes it: `name`, `description`, `input_parameters`, `output_parameters`."""


@dataclass(frozen=True, slots=True)
class Said:
    """A turn of the user or the assistant."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call of the assistant with what it gave. Values of arguments are text, or typed."""

    name: str
    arguments: Mapping[str, Any]
    output: Any


@dataclass(frozen=True, slots=True)
class Dialogue:
    """name       of its file, without the ending
    level      `level_1` or `level_2`
    turns      what was said and called, in order
    positions  where each turn stands: file and line, or entry
    listed     the descriptions that the model sees from the beginning
    """

    name: str
    level: str
    turns: tuple[Said | Called, ...]
    positions: tuple[str, ...]
    listed: tuple[Description, ...]


def load_api_bank(directory: Path) -> Rows:
    """The cases of a local copy: `api_descriptions.json` and the dialogues, `lv1-lv2-samples/<level>/*.jsonl`.

    A dialogue with a malformed line is quarantined whole, and a call that no answer could get right alone; both with
    file, line and reason. Raises FetchError when a file or folder is missing, UnreadableFile when the descriptions are
    no list.
    """
    require_local_copy(directory)
    known, quarantined = _descriptions(directory / DESCRIPTIONS)
    dialogues: list[Dialogue] = []
    for level, subfolder in FOLDERS.items():
        folder = directory / DIALOGUES / subfolder
        for file in sorted(folder.glob("*.jsonl")):
            try:
                dialogues.append(_read_dialogue(file, level, known))
            except RowError as error:
                position, _, reason = str(error).partition(": ")
                quarantined.append(
                    Quarantined(SOURCE, f"{folder.name}/{position}", reason, row_excerpt(_first_line(file)))
                )
    cases = cases_of(dialogues, known)
    return Rows(cases.examples, (*quarantined, *cases.quarantined))


def require_local_copy(directory: Path) -> None:
    """Raise FetchError unless the descriptions and the dialogues of both levels are there."""
    wanted = (
        f"Correct evaluation.api_bank.path, which holds {DESCRIPTIONS} and {DIALOGUES}, or remove it to ask the hub."
    )
    if not (directory / DESCRIPTIONS).is_file():
        raise FetchError(f"There is no file {directory / DESCRIPTIONS}. {wanted}")
    for subfolder in FOLDERS.values():
        folder = directory / DIALOGUES / subfolder
        if not any(folder.glob("*.jsonl")):
            raise FetchError(f"There is no folder {folder} with dialogues, *.jsonl. {wanted}")


def source_files(directory: Path) -> list[Path]:
    """The files of a local copy that are read, in a fixed order; none when it is not there."""
    dialogues = [
        file for folder in FOLDERS.values() for file in sorted((directory / DIALOGUES / folder).glob("*.jsonl"))
    ]
    return [file for file in (directory / DESCRIPTIONS, *dialogues) if file.is_file()]


def cases_of(dialogues: Iterable[Dialogue], known: Mapping[str, Description]) -> Rows:
    """One example for each call. `known` has the descriptions of APIs that are called without being visible."""
    examples: list[Example] = []
    quarantined: list[Quarantined] = []
    for dialogue in dialogues:
        for index, turn in enumerate(dialogue.turns):
            if isinstance(turn, Called):
                try:
                    examples.append(_case(dialogue, index, turn, known))
                except RowError as error:
                    quarantined.append(
                        Quarantined(SOURCE, dialogue.positions[index], str(error), row_excerpt(_shown(turn)))
                    )
    return Rows(tuple(examples), tuple(quarantined))


def found_in(dialogue: Dialogue) -> tuple[Description, ...]:
    """The descriptions that its searches gave, as far as they can be read."""
    found: list[Description] = []
    for turn in dialogue.turns:
        try:
            found += _found(turn)
        except RowError:
            continue  # the cases after it are quarantined with the reason
    return tuple(found)


def check_description(row: Any) -> Description:
    """The description. Raises RowError for a malformed one."""
    expect_that(isinstance(row, dict), "a description is not an object")
    expect_that(isinstance(row.get("name"), str), "a description has no name")
    parameters = row.get("input_parameters")
    expect_that(isinstance(parameters, dict), f"a description has no input_parameters: {row['name']!r}")
    for name, parameter in parameters.items():
        typed = isinstance(parameter, dict) and isinstance(parameter.get("type"), str)
        expect_that(typed, f"a parameter has no type: {name!r} of {row['name']!r}")
    return dict(row)


def _descriptions(file: Path) -> tuple[dict[str, Description], list[Quarantined]]:
    known: dict[str, Description] = {}
    quarantined: list[Quarantined] = []
    for index, row in enumerate(json_array(file)):
        try:
            description = check_description(row)
            expect_that(
                description["name"] not in known, f"a second description of the same API: {description['name']!r}"
            )
            known[description["name"]] = description
        except RowError as error:
            quarantined.append(Quarantined(SOURCE, f"{file.name}, entry {index}", str(error), row_excerpt(row)))
    return known, quarantined


def _read_dialogue(file: Path, level: str, known: Mapping[str, Description]) -> Dialogue:
    """Raises RowError with a message that begins with `file:line: `."""
    turns: list[Said | Called] = []
    positions: list[str] = []
    for number, line in json_lines(file):
        try:
            turns.append(_turn(line))
        except RowError as error:
            raise RowError(f"{file.name}:{number}: {error}") from error
        positions.append(f"{FOLDERS[level]}/{file.name}:{number}")
    called = {turn.name for turn in turns if isinstance(turn, Called)}
    if not called:
        raise RowError(f"{file.name}: no API is called")
    names = sorted(called) if level == "level_1" else [SEARCH]
    if unknown := [name for name in names if name not in known]:
        raise RowError(f"{file.name}: an API that is called has no description: {unknown}")
    return Dialogue(file.stem, level, tuple(turns), tuple(positions), tuple(known[name] for name in names))


def _first_line(file: Path) -> str:
    with file.open("rb") as lines:
        return lines.readline().decode("utf-8", errors="replace")


def _turn(line: bytes) -> Said | Called:
    row = json_object(line)
    match row.get("role"):
        case "User" | "AI" as role:
            expect_that(isinstance(row.get("text"), str), "a turn has no text")
            return Said(role, row["text"])
        case "API":
            expect_that(isinstance(row.get("api_name"), str), "a call has no api_name")
            expect_that(isinstance(row.get("param_dict"), dict), "a call has no param_dict")
            result: Any = row.get("result")
            expect_that(isinstance(result, dict) and "output" in result, "a call has no result with an output")
            return Called(row["api_name"], row["param_dict"], result["output"])
        case role:
            raise RowError(f"a turn is of an unknown role: {role!r}")


def _case(dialogue: Dialogue, index: int, call: Called, known: Mapping[str, Description]) -> Example:
    before = dialogue.turns[:index]
    expect_that(any(isinstance(t, Said) and t.role == "User" for t in before), "no user turn before the call")
    visible = _visible(dialogue, before)
    everything = {**known, **visible}
    expect_that(call.name in everything, f"an API that is called has no description: {[call.name]}")
    parameters = everything[call.name]["input_parameters"]
    foreign = sorted(set(call.arguments) - set(parameters))
    expect_that(not foreign, f"the gold call has parameters that its API does not have: {foreign} of {call.name!r}")
    arguments = {name: typed(value, parameters[name]["type"]) for name, value in call.arguments.items()}
    key = f"{dialogue.level}/{dialogue.name}"
    return Example(
        id=f"{key}/{index}",
        source=SOURCE,
        category=dialogue.level,
        messages=(Message("system", _INSTRUCTION), *(m for turn in before for m in _messages(turn, everything))),
        tools=tuple(_tool(description) for description in visible.values()),
        response=render_calls([Call(call.name, arguments)]),
        gold=(GoldCall(call.name, {k: (v, *_other_keywords(call)) for k, v in arguments.items()}),),
        group=f"{SOURCE}/{key}",
    )


def _visible(dialogue: Dialogue, before: Iterable[Said | Called]) -> dict[str, Description]:
    """The descriptions that the model has seen: those listed, and at level 2 those that were found."""
    visible = {description["name"]: description for description in dialogue.listed}
    if dialogue.level == "level_2":
        for turn in before:
            for found in _found(turn):
                visible.setdefault(found["name"], found)
    return visible


def _found(turn: Said | Called) -> tuple[Description, ...]:
    """The descriptions that a search gave."""
    if not isinstance(turn, Called) or turn.name != SEARCH or turn.output is None:
        return ()
    found = turn.output if isinstance(turn.output, list) else [turn.output]
    return tuple(check_description(row) for row in found)


def _other_keywords(call: Called) -> tuple[str, ...]:
    """The names, as words, of the APIs that the gold search finds: keywords as good as its own."""
    names = [str(description["name"]) for description in _found(call)]
    wanted = [name for name in names if name != _TOKEN] or names
    return tuple(" ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+", name)).lower() for name in wanted)


def _messages(turn: Said | Called, known: Mapping[str, Description]) -> tuple[Message, ...]:
    if isinstance(turn, Said):
        return (Message("user" if turn.role == "User" else "assistant", turn.text),)
    parameters = known.get(turn.name, {}).get("input_parameters", {})
    arguments = {name: _typed_if_it_can_be(value, parameters.get(name, {})) for name, value in turn.arguments.items()}
    output = turn.output if isinstance(turn.output, str) else json.dumps(turn.output, ensure_ascii=False)
    return (Message("assistant", render_calls([Call(turn.name, arguments)])), Message("tool", output))


def _typed_if_it_can_be(value: Any, schema: Mapping[str, Any]) -> Any:
    try:
        return typed(value, schema.get("type", "str"))
    except RowError:
        return value


def typed(value: Any, kind: str) -> Any:
    """The value of a parameter of the benchmark's type `kind`; where it is text, the text read as that type.

    Raises RowError for what is no value of the type. Types that the benchmark's own parameters do not have take all.
    """
    wanted = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "list(str)": list}.get(kind)
    found = literal_value(value.strip()) if isinstance(value, str) and wanted not in (None, str) else value
    if wanted is float and type(found) is int:
        found = float(found)
    expect_that(wanted is None or type(found) is wanted, f"a value is of the wrong type: {value!r} is no {kind}")
    return found


def _tool(description: Description) -> dict[str, Any]:
    """The description in JSON Schema, as the other data sets have it. Which parameters are required it does not say."""
    return {
        "name": description["name"],
        "description": description.get("description", ""),
        "parameters": {
            "type": "object",
            "properties": {name: _schema(schema) for name, schema in description["input_parameters"].items()},
        },
        "output_parameters": description.get("output_parameters", {}),
    }


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema["type"] == "list(str)":
        return {**schema, "type": "array", "items": {"type": "string"}}
    return {**schema, "type": _TYPES.get(schema["type"], schema["type"])}


def _shown(call: Called) -> str:
    return f"{call.name}({json.dumps(call.arguments, ensure_ascii=False, default=str)})"

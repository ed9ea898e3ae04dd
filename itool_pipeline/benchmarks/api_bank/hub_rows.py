"""API-Bank as its authors publish it on the hub: `test-data/level-1-api.json` and `level-2-api.json`.

Each row is one call: the dialogue before it as text, the descriptions in the prompt, and the expected call. The
dialogues are put together again out of the longest row of each file, so that both layouts give the same cases. A call
that follows another one directly stands there twice, because the benchmark's evaluator takes it for the first one's
reply too; here it is one case.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.api_bank.dialogues import (
    SOURCE,
    Called,
    Description,
    Dialogue,
    Said,
    cases_of,
    check_description,
    found_in,
)
from itool_pipeline.calls.python_values import literal_value
from itool_pipeline.data.rows import Quarantined, RowError, Rows, expect_that, row_excerpt
from itool_pipeline.data.streams import json_array

FILES: Mapping[str, str] = {"level_1": "test-data/level-1-api.json", "level_2": "test-data/level-2-api.json"}
"""Level → the file of its rows."""

_BEFORE_DESCRIPTIONS = "API descriptions:\n"
_TURN = re.compile(r"^(User|AI|API-Request): ?", re.M)
_END = "Generate API Request:"
_EXPECTED = re.compile(r"API-Request: \[(\w+)\((.*)\)\]", re.S)
_CALL = re.compile(r"\[(\w+)\((.*?)\)\]->(.*)", re.S)
_ARGUMENT = re.compile(r"(\w+)='(.*?)'(?:, (?=\w+=')|\Z)", re.S)

Turns = tuple[Said | Called, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    position: str
    before: Turns
    call: Called
    listed: tuple[Description, ...]


def load_api_bank_rows(files: Mapping[str, Path]) -> Rows:
    """The cases of the files, by level. What cannot be read is quarantined with file, entry and reason.

    Level 2 calls some APIs that it does not find; they are described elsewhere, so both files are wanted.

    Raises UnreadableFile when a file as a whole is no JSON list.
    """
    dialogues: list[Dialogue] = []
    quarantined: list[Quarantined] = []
    for level, file in files.items():
        rows = _rows(file, quarantined)
        by_file: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            by_file[row.file].append(row)
        dialogues += [_dialogue(level, same, quarantined) for same in by_file.values()]
    known = {d["name"]: d for dialogue in dialogues for d in (*found_in(dialogue), *dialogue.listed)}
    cases = cases_of(dialogues, known)
    return Rows(cases.examples, (*quarantined, *cases.quarantined))


def _rows(file: Path, quarantined: list[Quarantined]) -> list[_Row]:
    found: list[_Row] = []
    for index, row in enumerate(json_array(file)):
        position = f"{file.name}, entry {index}"
        try:
            found.append(_row(row, position))
        except RowError as error:
            quarantined.append(Quarantined(SOURCE, position, str(error), row_excerpt(row)))
    return found


def _row(row: Any, position: str) -> _Row:
    expect_that(isinstance(row, dict), "not a JSON object")
    for key in ("file", "instruction", "input", "expected_output"):
        expect_that(isinstance(row.get(key), str), f"no {key}")
    _, found, listed = row["instruction"].partition(_BEFORE_DESCRIPTIONS)
    expect_that(bool(found), "no API descriptions in the instruction")
    descriptions = [check_description(literal_value(line)) for line in listed.split("\n") if line.strip()]
    descriptions.sort(key=lambda description: str(description["name"]))
    expected = _EXPECTED.fullmatch(row["expected_output"].strip())
    if expected is None:
        raise RowError("the expected output is no call")
    call = Called(expected[1], _arguments(expected[2]), None)
    return _Row(row["file"], position, _turns(row["input"]), call, tuple(descriptions))


def _turns(text: str) -> Turns:
    text = text.rstrip().removesuffix(_END)
    parts = _TURN.split(text)
    expect_that(not parts[0].strip(), "the dialogue begins with no turn")
    turns: list[Said | Called] = []
    for role, content in zip(parts[1::2], parts[2::2], strict=True):
        if role != "API-Request":
            turns.append(Said(role, content.removesuffix("\n")))
            continue
        call = _CALL.fullmatch(content.removesuffix("\n"))
        if call is None:
            raise RowError("an earlier call cannot be read")
        turns.append(Called(call[1], _arguments(call[2]), literal_value(call[3])))
    return tuple(turns)


def _arguments(text: str) -> dict[str, str]:
    """`a='x', b='y'` → the texts by name. A value may hold quotes: it ends before the next name, or at the end."""
    found: dict[str, str] = {}
    end = 0
    while end < len(text):
        argument = _ARGUMENT.match(text, end)
        if argument is None or argument[1] in found:
            raise RowError(f"the arguments cannot be read: {row_excerpt(text)}")
        found[argument[1]] = argument[2]
        end = argument.end()
    return found


def _dialogue(level: str, rows: list[_Row], quarantined: list[Quarantined]) -> Dialogue:
    """The dialogue that the rows are beginnings of. A row that is none is quarantined."""
    longest = max(rows, key=lambda row: len(row.before))
    turns: Turns = (*longest.before, longest.call)
    positions: dict[int, str] = {}
    for row in rows:
        at = len(row.before)
        here = turns[at]
        same = isinstance(here, Called) and (here.name, here.arguments) == (row.call.name, row.call.arguments)
        if row.before == turns[:at] and same:
            positions.setdefault(at, row.position)
        else:
            reason = "not a beginning of the other rows' dialogue"
            quarantined.append(Quarantined(SOURCE, row.position, reason, row_excerpt(row.call.name)))
    own = tuple(positions.get(index, f"{longest.position}, turn {index}") for index in range(len(turns)))
    return Dialogue(Path(longest.file).stem, level, turns, own, longest.listed)

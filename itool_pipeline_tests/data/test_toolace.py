"""ToolACE's own layout, on rows written here and on the real ones where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.core.types import Message
from itool_pipeline.data.rows import Rows
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.toolace import read_toolace
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.rules import read_calls
from itool_pipeline_tests.data.examples import gathered
from itool_pipeline_tests.judges.by_source import JUDGE

REAL = Path(__file__).parents[2] / "../shared/data/toolace/data.json"
TOOLS = [
    {"name": "Get Time (v2)", "description": "", "parameters": {"type": "dict", "properties": {"city": {}, "at": {}}}},
    {"name": "plan", "description": "", "parameters": {"type": "dict", "properties": {"stops": {"type": "array"}}}},
]
SYSTEM = (
    "You are an expert in composing functions. You are given a question. \nIf none of the function can be used, "
    "also point it out.\n{note}Here is a list of functions in JSON format that you can invoke:\n{tools}. \n"
    "Should you decide to return the function call(s). \nPut it in the format of [func1(a=b), func2(params)]\n\n"
    "NO other text MUST be included. \n"
)


def write(folder: Path, *conversations: list[str], note: str = "") -> Path:
    """Rows whose turns are `u: …`, `a: …` and `t: …`."""
    roles = {"u": "user", "a": "assistant", "t": "tool"}
    rows = [
        {
            "system": SYSTEM.format(note=note, tools=json.dumps(TOOLS)),
            "conversations": [{"from": roles[turn[0]], "value": turn[3:]} for turn in turns],
        }
        for turns in conversations
    ]
    return write_rows(folder, rows)


def write_rows(folder: Path, rows: Any) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(rows))
    return path


def load(path: Path) -> Rows:
    return gathered(read_toolace(path))


def test_one_example_for_each_assistant_turn(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: time in Rome?", "a: [Get Time (v2)(city='Rome')]", "t: noon", "a: It is noon."])
    rows = load(path)
    first, second = rows.examples
    assert rows.quarantined == ()
    assert first.messages == (Message("user", "time in Rome?"),)
    assert first.response == '[Get Time (v2)(city="Rome")]'
    assert (first.gold[0].name, first.gold[0].arguments) == ("Get Time (v2)", {"city": ("Rome",)})
    assert first.category == "single_call"
    assert second.messages == (
        *first.messages,
        Message("assistant", "[Get Time (v2)(city='Rome')]"),
        Message("tool", "noon"),
    )
    assert (second.response, second.gold, second.category) == ("It is noon.", (), "no_call")
    assert first.group == second.group
    assert list(first.tools) == TOOLS


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
        {
            "name": "f",
            "description": "d",
            "parameters": {k: v for k, v in SCHEMA.items() if k != "required"},
            "required": ["city"],
        },
    ],
)
def test_tools_in_other_layouts(tmp_path: Path, tool: Any) -> None:
    turns = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "[f('Rome')]"}]
    row = {"system": SYSTEM.format(note="", tools=json.dumps([tool])), "conversations": turns}
    (example,) = load(write_rows(tmp_path, [row])).examples
    assert example.tools == ({"name": "f", "description": "d", "parameters": SCHEMA},)
    assert example.response == '[f(city="Rome")]'


def test_a_null_beside_the_parameters_is_not_shown(tmp_path: Path) -> None:
    """As nearly all of the set's tools have it."""
    text = SYSTEM.format(note="", tools=json.dumps([{**tool, "required": None} for tool in TOOLS]))
    turns = [{"from": "user", "value": "q"}, {"from": "assistant", "value": "No."}]
    (example,) = load(write_rows(tmp_path, [{"system": text, "conversations": turns}])).examples
    assert list(example.tools) == TOOLS


def test_what_the_system_text_adds_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: q", "a: no"], note="Today is 2024-12-02, Monday..")
    assert load(path).examples[0].messages == (
        Message("system", "Today is 2024-12-02, Monday."),
        Message("user", "q"),
    )


def test_literals_positions_and_dictionaries(tmp_path: Path) -> None:
    path = write(tmp_path, ["u: q", 'a: [plan(stops=[{"a": true, "b": [1]}]), Get Time (v2)("Rome", at=null)]'])
    (example,) = load(path).examples
    assert example.category == "several_calls"
    assert example.response == '[plan(stops=[{"a": True, "b": [1]}]), Get Time (v2)(city="Rome", at=None)]'
    assert example.gold[0].arguments == {"stops": ([{"a": True, "b": [1]}],)}
    assert example.gold[1].arguments == {"city": ("Rome",), "at": (None,)}


def test_calls_between_tags_or_beside_words_are_calls(tmp_path: Path) -> None:
    tagged = '<tool_call>{"name": "plan", "arguments": {"stops": []}}</tool_call>'
    rows = load(write(tmp_path, ["u: q", f"a: {tagged}", "u: q", "a: Sure: [plan(stops=[])]"]))
    assert [(e.response, e.category) for e in rows.examples] == [("[plan(stops=[])]", "single_call")] * 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("  ", "the answer is empty"),
        ("[]", "writes calls as text: an empty list of calls"),
        ("[plan(stops=[1)]", "writes calls as text: this cannot be read, found ')', expected ] (at character 14)"),
        ("<tool_call>{}</tool_call>", "writes calls as text: this cannot be read: '{}'"),
        ("[other(a=1)]", "calls what is not among the tools: ['other']"),
        ("I use [plan(stops=[])] here.", "writes calls as text: amid a sentence"),
        ("[plan([], 3)]", "calls with an argument that no parameter is named for: ['plan']"),
    ],
)
def test_turns_that_cannot_be_read_are_quarantined_with_the_reason(tmp_path: Path, answer: str, reason: str) -> None:
    rows = load(write(tmp_path, ["u: q", f"a: {answer}", "u: more", "a: fine"]))
    assert [e.response for e in rows.examples] == ["fine"]
    (row,) = rows.quarantined
    assert row.position == "row 0, turn 1"
    assert row.reason.startswith(reason)
    assert row.excerpt == answer.strip()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (3, "not a JSON object"),
        ({"conversations": []}, "no system text"),
        ({"system": "Here are the tools you can use: f"}, "no tool list"),
        ({"system": "<tool_name>f</tool_name>"}, "the tool list is in another layout than JSON after"),
        ({"system": SYSTEM.format(note="", tools="[{]")}, "the tool list is not JSON"),
        ({"system": SYSTEM.format(note="", tools="[" * 100_000)}, "the tool list is not JSON"),
        ({"system": SYSTEM.format(note="", tools="{}")}, "the tool list is not a list"),
        ({"system": SYSTEM.format(note="", tools="[{}]")}, "a tool has no name"),
        ({"system": SYSTEM.format(note="", tools="[]")}, "no conversation"),
        (
            {"system": SYSTEM.format(note="", tools="[]"), "conversations": [{"from": "god", "value": ""}]},
            "a turn has an unknown speaker: 'god'",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_quarantined_with_the_reason(tmp_path: Path, row: Any, reason: str) -> None:
    rows = load(write_rows(tmp_path, [row]))
    assert rows.examples == ()
    assert rows.quarantined[0].position == "row 0"
    assert rows.quarantined[0].reason.startswith(reason)


def test_a_file_in_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="is one JSON object, whose key `rows` holds a list of 1"):
        load(write_rows(tmp_path, {"rows": [{}]}))
    (tmp_path / "data.json").write_text('[{"a": 1}\n{"a": 2}]')
    with pytest.raises(UnreadableFile, match=r"data\.json: not JSON"):
        load(tmp_path / "data.json")


@pytest.fixture(scope="module")
def real() -> Rows:
    if not REAL.exists():
        pytest.skip("needs the sample of ToolACE in shared/data, which is not shipped")
    return load(REAL)


def test_every_real_turn_is_accounted_for(real: Rows) -> None:
    rows = json.loads(REAL.read_text())
    answers = Counter(
        {f"row {i}": sum(t["from"] == "assistant" for t in r["conversations"]) for i, r in enumerate(rows)}
    )
    whole_rows = {row.position for row in real.quarantined if "turn" not in row.position}
    turns = [row for row in real.quarantined if "turn" in row.position]
    assert len(real.examples) + len(turns) == sum(n for row, n in answers.items() if row not in whole_rows)
    assert len({e.id for e in real.examples}) == len(real.examples)


def test_the_real_reasons(real: Rows) -> None:
    assert Counter(row.kind for row in real.quarantined) == {
        "the tool list is in another layout than JSON after `Here is a list of functions`": 41,
        "no tool list": 2,
        "the answer is empty": 1,
    }
    assert Counter(e.category for e in real.examples) == {"single_call": 462, "several_calls": 343, "no_call": 246}


def test_real_gold_is_what_the_verdict_accepts(real: Rows) -> None:
    for e in real.examples:
        assert JUDGE.verdict(e, e.response).correct
        assert [(c.name, dict(c.arguments)) for c in (read_calls(GOLD_RULES, e, e.response) if e.gold else ())] == [
            (g.name, {k: v for k, (v,) in g.arguments.items()}) for g in e.gold
        ]

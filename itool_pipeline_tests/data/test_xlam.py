"""xLAM's own layout, on rows written here; the real ones are accounted for in test_sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.types import Message
from itool_pipeline.data.rows import Rows
from itool_pipeline.data.streams import UnreadableFile
from itool_pipeline.data.xlam import json_type, read_xlam
from itool_pipeline_tests.data.examples import gathered

REAL = Path(__file__).parents[2] / "../shared/data/xlam/xlam_function_calling.json"

PARAMETERS = {
    "city": {"description": "Where.", "type": "str", "default": ""},
    "days": {"description": "How many.", "type": "int", "default": "3"},
    "hours": {"description": "Which.", "type": "List[int], optional", "default": ""},
    "metric": {"description": "Units.", "type": "bool, optional", "default": "true"},
}
TOOLS = [
    {"name": "weather.get", "description": "The weather.", "parameters": PARAMETERS},
    {"name": "clock", "description": "The time.", "parameters": {}},
]


def row(answers: Any, tools: Any = TOOLS, query: Any = "Is it warm in Rome?") -> dict[str, Any]:
    return {"id": 7, "query": query, "answers": answers, "tools": tools}


def load(folder: Path, *rows: Any, as_text: bool = True) -> Rows:
    def texts(given: Any) -> Any:
        if not as_text or not isinstance(given, dict):
            return given
        return {k: json.dumps(v) if isinstance(v, list) else v for k, v in given.items()}

    path = folder / "xlam.json"
    path.write_text(json.dumps([texts(given) for given in rows]))
    return gathered(read_xlam(path))


@pytest.mark.parametrize("as_text", [True, False])
def test_a_row_becomes_an_example(tmp_path: Path, as_text: bool) -> None:
    answers = [
        {"name": "weather.get", "arguments": {"city": "Rome", "hours": [1, 2]}},
        {"name": "clock", "arguments": {}},
    ]
    rows = load(tmp_path, row(answers[:1]), row(answers), as_text=as_text)
    one, two = rows.examples
    assert rows.quarantined == ()
    assert (one.id, one.source, one.group, one.category) == ("xlam_0", "xlam", "xlam_0", "single_call")
    assert one.messages == (Message("user", "Is it warm in Rome?"),)
    assert one.response == '[weather.get(city="Rome", hours=[1, 2])]'
    assert one.gold == (GoldCall("weather.get", {"city": ("Rome",), "hours": ([1, 2],)}),)
    assert (two.id, two.category) == ("xlam_1", "several_calls")
    assert two.response == '[weather.get(city="Rome", hours=[1, 2]), clock()]'


def test_tools_become_json_schema(tmp_path: Path) -> None:
    (example,) = load(tmp_path, row([{"name": "clock", "arguments": {}}])).examples
    assert example.tools == (
        {
            "name": "weather.get",
            "description": "The weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"description": "Where.", "type": "string"},
                    "days": {"description": "How many.", "type": "integer", "default": 3},
                    "hours": {"description": "Which.", "type": "array", "items": {"type": "integer"}},
                    "metric": {"description": "Units.", "type": "boolean", "default": True},
                },
                "required": ["city"],
            },
        },
        {
            "name": "clock",
            "description": "The time.",
            "parameters": {"type": "object", "properties": {}, "required": []},
        },
    )


@pytest.mark.parametrize(
    ("python", "schema"),
    [
        ("str", {"type": "string"}),
        ("float", {"type": "number"}),
        ("Dict[str, List[int]]", {"type": "object"}),
        ("list", {"type": "array", "items": {}}),
        ("typing.List[float]", {"type": "array", "items": {"type": "number"}}),
        ("List[List[int]]", {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        ("Tuple[float, float]", {"type": "array", "items": {"type": "number"}}),
        ("Tuple[str, int]", {"type": "array", "items": {}}),
        ("Tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        ("List[Tuple[int, int]]", {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        ("Union[int, float]", {"anyOf": [{"type": "integer"}, {"type": "number"}]}),
        ("Optional[str]", {"type": "string"}),
        ("Union[str, Any]", {}),
        ("Callable[[float], float]", {}),
        ("np.ndarray", {}),
        ("", {}),
        ("List[" * 500 + "int" + "]" * 500, None),
    ],
)
def test_python_types(python: str, schema: dict[str, Any] | None) -> None:
    if schema is None:
        assert json_type(python)["type"] == "array"
    else:
        assert json_type(python) == schema


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("int", "2020", 2020),
        ("int", "trapezoid", "trapezoid"),
        ("int", "2.5", "2.5"),
        ("int", "true", "true"),
        ("float", "1", 1),
        ("bool", "False", False),
        ("str", "12", "12"),
        ("List[int]", "[1, 2]", [1, 2]),
        ("list", 10, 10),
    ],
)
def test_defaults_are_of_the_parameters_type(tmp_path: Path, kind: str, default: Any, expected: Any) -> None:
    tool = {"name": "f", "description": "", "parameters": {"x": {"type": kind, "default": default}}}
    (example,) = load(tmp_path, row([{"name": "f", "arguments": {}}], [tool])).examples
    found = example.tools[0]["parameters"]["properties"]["x"]["default"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3, "not a JSON object"),
        (row([], query=" "), "no query"),
        (row([], query=None), "no query"),
        (row([]), "the answer has no calls, and the set has no words to say instead"),
        (row("[{]"), "`answers` is not JSON"),
        (row([], tools="[{]"), "tools is not JSON"),
        (row([], tools="{}"), "the tools are not a list: {}"),
        (row([], tools=[{}]), "a tool has no name"),
        (row([], tools=[{"name": "f"}]), "a tool has no parameters: 'f'"),
        (row([], tools=[{"name": "f", "parameters": {"x": "int"}}]), "a parameter is not described: 'x' of 'f'"),
        (row([{"arguments": {}}]), "a call has no function"),
        (row([{"name": "clock", "arguments": "{"}]), "the arguments of a call are not JSON: 'clock'"),
        *(
            (row([{"name": "clock", "arguments": a}]), f"the arguments of a call are not an object: 'clock' has {a!r}")
            for a in ([1], False, 0, [])
        ),
        (row([{"name": "sundial", "arguments": {}}]), "calls what is not among the tools: ['sundial']"),
        (
            row([{"name": "clock", "arguments": {}}], [*TOOLS, TOOLS[1]]),
            "calls a name that more than one tool has: ['clock']",
        ),
        (row([{"name": "clock", "arguments": {"a=b": 1}}]), "the answer does not read back as what it says"),
        (row([{"name": "clock", "arguments": {"a": "\ud800"}}]), "holds half a character"),
        (row([{"name": "clock", "arguments": {"a": float("nan")}}]), "holds a value that JSON does not know"),
    ],
)
def test_rows_that_cannot_be_read_are_quarantined_with_the_reason(tmp_path: Path, given: Any, reason: str) -> None:
    good = row([{"name": "clock", "arguments": {}}])
    rows = load(tmp_path, good, given, good)
    assert [e.id for e in rows.examples] == ["xlam_0", "xlam_2"]
    (bad,) = rows.quarantined
    assert (bad.source, bad.position) == ("xlam", "row 1")
    assert bad.reason.startswith(reason)


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ROME = [{"name": "weather", "arguments": {"city": "Rome"}}]


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "weather", "description": "d", "parameters": SCHEMA},
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": json.dumps(SCHEMA)}},
        {"name": "weather", "description": "d", "input_schema": SCHEMA, "parameters": None},
        json.dumps({"name": "weather", "description": "d", "parameters": SCHEMA}),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_tools_in_the_layout_of_openai(tmp_path: Path, tool: Any, as_text: bool) -> None:
    (example,) = load(tmp_path, row(ROME, [tool]), as_text=as_text).examples
    assert example.tools == ({"name": "weather", "description": "d", "parameters": SCHEMA},)
    assert example.response == '[weather(city="Rome")]'


@pytest.mark.parametrize(
    "answers",
    [
        [{"name": "weather", "arguments": '{"city": "Rome"}'}],
        [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}],
        [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}],
        [{"name": "weather", "parameters": {"city": "Rome"}}],
        ROME[0],
        "[{'name': 'weather', 'arguments': {'city': 'Rome'}}]",
    ],
)
def test_calls_in_other_layouts(tmp_path: Path, answers: Any) -> None:
    tool = {"name": "weather", "parameters": {"city": {"type": "str"}}}
    (example,) = load(tmp_path, row(answers, [tool])).examples
    assert example.response == '[weather(city="Rome")]'


def test_parameters_with_the_names_of_a_schemas_keywords(tmp_path: Path) -> None:
    names = ("properties", "type", "required", "items", "description")
    tool = {"name": "f", "parameters": {name: {"description": name, "type": "str"} for name in names}}
    (example,) = load(tmp_path, row([{"name": "f", "arguments": dict.fromkeys(names, "x")}], [tool])).examples
    schema = example.tools[0]["parameters"]
    assert schema["required"] == list(names)
    assert schema["properties"]["properties"] == {"description": "properties", "type": "string"}
    assert len(example.gold[0].arguments) == 5


def test_a_schema_without_parameters(tmp_path: Path) -> None:
    for schema in ({"type": "object", "properties": {}}, {"type": "object"}, {"properties": {}}):
        tool = {"name": "clock", "parameters": schema}
        (example,) = load(tmp_path, row([{"name": "clock", "arguments": {}}], [tool])).examples
        assert example.tools[0]["parameters"] == schema


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"system": "Be brief."}, "has `system`, which is not read: the set has no system texts"),
        ({"images": "a.png"}, "has `images`, which is not read: 'a.png'"),
        ({"correct": False}, "marked as not to be learnt from"),
        ({"weight": 0}, "marked as not to be learnt from"),
    ],
)
def test_what_else_a_row_says_is_never_lost(tmp_path: Path, beside: Any, reason: str) -> None:
    rows = load(tmp_path, {**row([{"name": "clock", "arguments": {}}]), **beside})
    assert (len(rows.examples), [q.reason for q in rows.quarantined]) == (0, [reason])


def test_two_tools_of_one_name_do_no_harm_when_another_is_called(tmp_path: Path) -> None:
    rows = load(tmp_path, row([{"name": "clock", "arguments": {}}], [TOOLS[0], *TOOLS]))
    assert len(rows.examples) == 1


def test_a_file_in_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "xlam.json").write_text("query: q\n")
    with pytest.raises(UnreadableFile, match="is no JSON: it begins with `query: q`"):
        list(read_xlam(tmp_path / "xlam.json"))


def test_real_answers_are_what_the_set_says() -> None:
    if not REAL.exists():
        pytest.skip("needs the sample of xLAM in shared/data, which is not shipped")
    raw = json.loads(REAL.read_text())
    rows = gathered(read_xlam(REAL))
    for e in rows.examples:
        said = json.loads(raw[int(e.id.removeprefix("xlam_"))]["answers"])
        assert [(g.name, {k: v for k, (v,) in g.arguments.items()}) for g in e.gold] == [
            (call["name"], call["arguments"]) for call in said
        ]
    assert [(q.position, q.kind) for q in rows.quarantined] == [
        ("row 52", "the answer has no calls, and the set has no words to say instead")
    ]

"""API-Bank verdicts: a table worked out by hand from what the benchmark's APIs compare, and mutated gold answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itool_pipeline.benchmarks.api_bank.comparisons import OPTIONAL, RULES, agrees
from itool_pipeline.benchmarks.api_bank.dialogues import load_api_bank
from itool_pipeline.benchmarks.api_bank.verdicts import decide
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.syntaxes import SYNTAXES
from itool_pipeline.calls.types import Call, GoldCall
from itool_pipeline.core.types import Example, Message
from itool_pipeline.judges.mistakes import ErrorType

BY_HAND = Path(__file__).parent / "by_hand"
REAL = Path(__file__).parents[3] / "../shared/data/api_bank"
SOURCES = [pytest.param(BY_HAND, id="by hand"), pytest.param(REAL, id="real")]


def case(gold: str, arguments: Mapping[str, Any], *others: str) -> Example:
    tools = tuple(
        {"name": name, "description": "", "parameters": {"type": "object", "properties": {k: {} for k in arguments}}}
        for name in (gold, *others)
    )
    return Example(
        id="level_1/x/1",
        source="api_bank",
        category="level_1",
        messages=(Message("user", "q"),),
        tools=tools,
        response=render_calls([Call(gold, arguments)]),
        gold=(GoldCall(gold, {name: (value,) for name, value in arguments.items()}),),
        group="g",
    )


@pytest.mark.parametrize(
    ("api", "parameter", "expected", "right", "wrong"),
    [
        # equal, and nothing else
        ("GetUserToken", "password", "s3cret", ["s3cret"], ["S3cret", " s3cret", ""]),
        ("AddAlarm", "time", "2023-05-02 09:00:00", ["2023-05-02 09:00:00"], ["2023-5-2 09:00:00", "2023-05-02"]),
        ("AddMeeting", "attendees", ["B", "E"], [["B", "E"], "['B', 'E']", ("B", "E")], [["E", "B"], ["B"], "B, E"]),
        # types: a call's text is converted to the declared type
        ("BookHotel", "room_count", 2, [2, "2", " 2"], [3, "two", 2.5, True, "2.0", None]),
        ("CancelRegistration", "appointment_id", "123", ["123", 123, " 123 "], [124, "0123", None, ["123"]]),
        ("TimedSwitch", "on", False, [False, "False"], [True, "True", 0, "off", None]),
        ("TimedSwitch", "on", True, [True, "True"], [False, 1, "on"]),
        # free text: more than half of all words are shared
        ("AddAgenda", "content", "Meeting with Bob", ["Meeting with Bob", "Bob with Meeting", "Meeting with Bob Lee"],
         ["meeting with bob", "Meeting Bob now", "Meeting"]),
        ("AddReminder", "content", "Call mom", ["call Mom", "call mom now"], ["call", "call my dear mom"]),
        ("ModifyMeeting", "meeting_topic", "a b c", ["a b c", "a b c d", "a b"], ["a b d", "A B C"]),
        # deletions are decided by their time
        ("DeleteAgenda", "content", "Meeting", ["anything"], []),
        ("DeleteAgenda", "time", "2023-05-02 09:00:00", [], ["2023-05-02 10:00:00"]),
        ("DeleteReminder", "content", "Meeting", ["anything"], []),
        # space around, and case
        ("QueryRegistration", "patient_name", "Ann Lee", ["Ann Lee", " Ann Lee "], ["ann lee", "AnnLee"]),
        ("QueryScene", "name", "Movie Night", ["movie night ", "MOVIE NIGHT"], ["movie-night"]),
        ("QueryStock", "stock_code", "ACME", ["acme"], ["ACM"]),
        ("PlayMusic", "music_name", "Shape of You", ["shape of you"], ["Shape of You."]),
        ("Wiki", "keyword", "artificial intelligence", ["Artificial_Intelligence"], ["AI"]),
        ("Dictionary", "keyword", "ice cream", ["ice_cream"], ["icecream"]),
        ("Calculator", "formula", "(5+6)*3", ["( 5 + 6 ) * 3"], ["3*(5+6)", "33"]),
        ("SendEmail", "receiver", "a@b.c", ["A@B.C "], ["a@b.d"]),
        # dates, as they are read
        ("QueryStock", "date", "2023-05-02", ["2023-05-02", " 2023-5-2"], ["2023-05-03", "05-02", "23-05-02"]),
        ("QueryHistoryToday", "date", "10-06", ["10-06", "10-6", "2023-10-06"], ["06-10", "10/06", "October 6th"]),
        ("RecordHealthData", "time", "2023-05-03 08:00:00", ["2023-5-3 8:00:00"], ["2023-05-03 08:00", "2023-05-03"]),
        # lists of objects, in any order
        ("RecordHealthData", "health_data", [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
         [[{"name": "b", "value": 2}, {"name": "a", "value": "1"}],
          '[{"name": "a", "value": 1}, {"name": "b", "value": 2}]'],
         [[{"name": "a", "value": "1"}], [{"name": "a", "value": "2"}, {"name": "b", "value": "2"}], [1], "a", None]),
        ("AddScene", "devices", [{"name": "Oven", "description": "Hot"}],
         [[{"name": "oven ", "description": " Hot"}]],
         [[{"name": "oven", "description": "hot"}], [{"name": "oven"}], []]),
        # ours: keywords
        ("ToolSearcher", "keywords", "delete agenda", ["Agenda delete", "delete agenda item"],
         ["agenda", "remove agenda item"]),
        ("Translate", "tgt_lang", "fr", ["FR"], ["french"]),
    ],
)  # fmt: skip
def test_values_by_hand(api: str, parameter: str, expected: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [value for value in right if not agrees(api, parameter, value, expected)] == []
    assert [value for value in wrong if agrees(api, parameter, value, expected)] == []
    assert agrees(api, parameter, expected, expected)


MEETING = {"token": "t", "meeting_topic": "budget talk", "attendees": ["Bob"]}


@pytest.mark.parametrize(
    ("output", "exact"),
    [
        ('[AddMeeting(token="t", meeting_topic="budget talk", attendees=["Bob"])]', True),
        ("[AddMeeting(attendees=['Bob'], token='t', meeting_topic='budget talk')]", True),
        ("[AddMeeting(token=t, meeting_topic='budget talk', attendees=\"['Bob']\")]", True),
        ('[AddMeeting("t", "budget talk", ["Bob"])]', True),
        ('AddMeeting(token="t", meeting_topic="budget talk", attendees=["Bob"])', True),
        ('Sure! [AddMeeting(token="t", meeting_topic="budget talk", attendees=["Bob"])] Done.', True),
        ('[AddMeeting(token="t", meeting_topic="budget talk now", attendees=["Bob"])]', False),
    ],
)
def test_right_answers(output: str, exact: bool) -> None:
    verdict = decide(case("AddMeeting", MEETING), output)
    assert (verdict.correct, verdict.exact) == (True, exact), verdict
    assert (verdict.error_type, verdict.error, verdict.mistake) == ("", "", None)


@pytest.mark.parametrize(
    ("output", "error_type", "mistake"),
    [
        ("", "no_call", ErrorType.TOOLS_COUNT),
        ("I cannot do that.", "no_call", ErrorType.TOOLS_COUNT),
        ("[]", "no_call", ErrorType.TOOLS_COUNT),
        ('[AddMeeting(token="t", meeting_topic="budget', "no_call", ErrorType.CODE_SYNTAX),
        ('[AddMeeting(token="t" "x")]', "parameters", ErrorType.PARAMETER_COUNT),
        ('[AddMeeting(token="t"; b)]', "no_call", ErrorType.CODE_SYNTAX),
        ('[GetToday(), AddMeeting(token="t", meeting_topic="budget talk")]', "calls", ErrorType.TOOLS_COUNT),
        ("[GetToday()]", "api", ErrorType.TOOL_NAME),
        ('[addmeeting(token="t", meeting_topic="budget talk", attendees=["Bob"])]', "api", ErrorType.TOOL_NAME),
        ('[AddMeeting(token="t", meeting_topic="budget talk")]', "parameters", ErrorType.PARAMETER_COUNT),
        ('[AddMeeting(token="t", topic="budget talk", attendees=["Bob"])]', "parameters", ErrorType.PARAMETER_NAME),
        ('[AddMeeting(token="T", meeting_topic="budget talk", attendees=["Bob"])]', "value", ErrorType.PARAMETER_VALUE),
        ('[AddMeeting(token="t", meeting_topic="lunch", attendees=["Bob"])]', "value", ErrorType.PARAMETER_VALUE),
    ],
)  # fmt: skip
def test_wrong_answers(output: str, error_type: str, mistake: ErrorType) -> None:
    verdict = decide(case("AddMeeting", MEETING, "GetToday"), output)
    assert not verdict.correct
    assert not verdict.exact
    assert verdict.error_type == error_type
    assert verdict.error
    assert verdict.mistake is not None
    assert verdict.mistake.type == mistake


def test_an_expected_empty_text_must_be_given() -> None:
    expected = case("QueryAgenda", {"token": "t", "location": ""})
    assert decide(expected, '[QueryAgenda(token="t", location="")]').exact
    verdict = decide(expected, '[QueryAgenda(token="t")]')
    assert (verdict.correct, verdict.error_type) == (False, "parameters")
    assert verdict.mistake is not None
    assert (verdict.mistake.type, verdict.mistake.parameter) == (ErrorType.PARAMETER_COUNT, "location")


def test_a_wrong_value_is_named() -> None:
    verdict = decide(case("AddMeeting", MEETING), '[AddMeeting(token="x", meeting_topic="no", attendees=["Bob"])]')
    assert verdict.mistake is not None
    assert (verdict.mistake.function, verdict.mistake.parameter) == ("AddMeeting", "token")
    assert (verdict.mistake.expected, verdict.mistake.got) == ('["t"]', '"x"')
    assert verdict.error == 'AddMeeting has "x" for token; accepted: ["t"]'


def test_a_parameter_that_nobody_looks_at_may_be_added() -> None:
    translate = case("Translate", {"src": "Hello", "tgt_lang": "fr"})
    added = decide(translate, '[Translate(src="Hello", src_lang="en", tgt_lang="fr")]')
    assert (added.correct, added.exact) == (True, False)
    assert not decide(translate, '[Translate(src="Hello", lang="en", tgt_lang="fr")]').correct


def test_any_of_several_accepted_values_is_right_and_the_first_is_exact() -> None:
    search = replace(
        case("ToolSearcher", {"keywords": ""}), gold=(GoldCall("ToolSearcher", {"keywords": ("a b", "c d")}),)
    )
    found = {words: decide(search, f'[ToolSearcher(keywords="{words}")]') for words in ("a b", "d c", "a d")}
    assert {words: (v.correct, v.exact) for words, v in found.items()} == {
        "a b": (True, True),
        "d c": (True, False),
        "a d": (False, False),
    }


@pytest.fixture(params=SOURCES)
def cases(request: pytest.FixtureRequest) -> tuple[Example, ...]:
    if not request.param.exists():
        pytest.skip("needs the half of API-Bank in shared/data, which is not shipped")
    return load_api_bank(request.param).examples


def test_every_gold_answer_is_right_and_exact(cases: tuple[Example, ...]) -> None:
    for example in cases:
        verdict = decide(example, example.response)
        assert (verdict.correct, verdict.exact) == (True, True), (example.id, verdict)


def mutations(gold: GoldCall) -> Iterator[tuple[str, Call]]:
    """Wrong calls, each with the kind of error it has."""
    arguments = {name: accepted[0] for name, accepted in gold.arguments.items()}
    yield "api", Call(f"{gold.name}Now", arguments)
    yield "parameters", Call(gold.name, {**arguments, "because": "x"})
    for name, value in arguments.items():
        rest = {k: v for k, v in arguments.items() if k != name}
        yield "parameters", Call(gold.name, rest)
        yield "parameters", Call(gold.name, {**rest, f"{name}_": value})
        if gold.name in ("DeleteAgenda", "DeleteReminder") and name in ("content", "location"):
            continue
        yield "value", Call(gold.name, {**arguments, name: None})
        yield "value", Call(gold.name, {**arguments, name: "zzz"})
        if isinstance(value, str):
            yield "value", Call(gold.name, {**arguments, name: f"{value.replace(' ', 'x')}x"})
        if isinstance(value, list):
            yield "value", Call(gold.name, {**arguments, name: [*value, "zzz"]})
        if isinstance(value, int):
            yield "value", Call(gold.name, {**arguments, name: not value if isinstance(value, bool) else value + 1})


def test_mutated_gold_answers_are_wrong(cases: tuple[Example, ...]) -> None:
    for example in cases:
        for error_type, call in mutations(example.gold[0]):
            verdict = decide(example, render_calls([call]))
            assert (verdict.correct, verdict.error_type) == (False, error_type), (example.id, call)
            assert verdict.mistake is not None, (example.id, call)


def test_rules_are_for_parameters_that_the_apis_have() -> None:
    if not REAL.exists():
        pytest.skip("needs the descriptions of API-Bank in shared/data, which are not shipped")

    described = {
        row["name"]: set(row["input_parameters"]) for row in json.loads((REAL / "api_descriptions.json").read_text())
    }
    for api, rules in RULES.items():
        assert set(rules) <= described[api], api
    for api, names in OPTIONAL.items():
        assert names <= described[api]


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=lambda s: s.name)
def test_a_call_is_found_among_words_in_each_syntax(syntax: CallSyntax) -> None:
    wanted = case("AddAlarm", {"time": "2023-05-02 09:00:00"})
    right, late = (
        syntax.render_calls([Call("AddAlarm", {"time": f"2023-05-02 {time}:00:00"})]) for time in ("09", "10")
    )
    for text in (right, f"So: {right}", f"{right}\nDone."):
        assert decide(wanted, text, syntax).correct
        assert decide(wanted, text, syntax).exact
    assert decide(wanted, late, syntax).error_type == "value"
    for text in ("No.", "", right[:-9]):
        verdict = decide(wanted, text, syntax)
        assert (verdict.correct, verdict.error_type) == (False, "no_call")
        assert verdict.mistake is not None
    two = syntax.render_calls([Call("AddAlarm", {}), Call("AddAlarm", {})])
    assert decide(wanted, two, syntax).error_type == "calls"

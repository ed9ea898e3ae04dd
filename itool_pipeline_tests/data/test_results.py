"""Which call a result belongs to, by hand: the call's id, the function's name, the place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from itool_pipeline.calls.types import Call
from itool_pipeline.data.conversations.results import CallsAsked, ToolResult, result_identity
from itool_pipeline.data.rows import RowError

OSLO, ROME, CLOCK = Call("weather", {"city": "Oslo"}), Call("weather", {"city": "Rome"}), Call("clock", {})


def shown(calls: Sequence[tuple[Call, str]], *results: ToolResult) -> str:
    asked = CallsAsked()
    asked.add_calls([call for call, _ in calls], [identity for _, identity in calls])
    return asked.show_results(results)


def test_the_only_result_of_an_only_call_stands_by_itself() -> None:
    for identity in ("", "c0"):
        for name in ("", "clock"):
            assert shown([(CLOCK, identity)], ToolResult("noon", identity, name)) == "noon"


@pytest.mark.parametrize(
    "results",
    list(permutations([ToolResult("3", "a"), ToolResult("31", "b"), ToolResult("noon", "c")])),
)
def test_ids_decide_in_whatever_order_results_come(results: Sequence[ToolResult]) -> None:
    text = shown([(OSLO, "a"), (ROME, "b"), (CLOCK, "c")], *results)
    assert text == 'weather(city="Oslo"): 3\nweather(city="Rome"): 31\nclock: noon'


def test_the_name_of_a_result_comes_before_its_place() -> None:
    calls = [(OSLO, ""), (CLOCK, "")]
    expected = "weather: 3\nclock: noon"
    assert shown(calls, ToolResult("3", name="weather"), ToolResult("noon", name="clock")) == expected
    assert shown(calls, ToolResult("noon", name="clock"), ToolResult("3", name="weather")) == expected
    assert shown(calls, ToolResult("noon", name="clock"), ToolResult("3")) == expected


def test_without_id_and_name_the_place_decides() -> None:
    assert shown([(OSLO, ""), (CLOCK, "")], ToolResult("3"), ToolResult("noon")) == "weather: 3\nclock: noon"
    assert shown([(OSLO, "a"), (CLOCK, "b")], ToolResult("3"), ToolResult("noon")) == "weather: 3\nclock: noon"


def test_ids_say_nothing_where_the_calls_have_none() -> None:
    assert shown([(OSLO, ""), (CLOCK, "")], ToolResult("3", "x"), ToolResult("noon", "y")) == "weather: 3\nclock: noon"


def test_an_id_of_several_calls_is_told_apart_by_name_then_place() -> None:
    calls = [(OSLO, "0"), (CLOCK, "0")]
    assert shown(calls, ToolResult("noon", "0", "clock"), ToolResult("3", "0")) == "weather: 3\nclock: noon"
    assert shown(calls, ToolResult("3", "0"), ToolResult("noon", "0")) == "weather: 3\nclock: noon"


def test_where_a_result_is_missing_the_other_says_whose_it_is() -> None:
    assert shown([(OSLO, "a"), (CLOCK, "b")], ToolResult("noon", "b")) == "clock: noon"
    assert shown([(OSLO, "a"), (ROME, "b")], ToolResult("31", "b")) == 'weather(city="Rome"): 31'


def test_equal_calls_are_told_apart_by_their_place() -> None:
    text = shown([(OSLO, "a"), (OSLO, "b")], ToolResult("4", "b"), ToolResult("3", "a"))
    assert text == 'weather(city="Oslo") (call 1): 3\nweather(city="Oslo") (call 2): 4'


def test_one_result_for_several_calls_says_nothing_of_whose_it_is() -> None:
    assert shown([(OSLO, ""), (CLOCK, "")], ToolResult("3 and noon")) == "3 and noon"
    assert shown([(OSLO, ""), (ROME, "")], ToolResult("3 and 31", name="weather")) == "3 and 31"


def test_an_id_that_comes_again_is_that_of_the_latest_call() -> None:
    asked = CallsAsked()
    asked.add_calls([OSLO], ["call_0"])
    assert asked.show_results([ToolResult("3", "call_0")]) == "3"
    asked.add_calls([ROME], ["call_0"])
    assert asked.show_results([ToolResult("31", "call_0")]) == "31"
    unanswered = CallsAsked()
    unanswered.add_calls([OSLO], ["call_0"])
    unanswered.add_calls([ROME, CLOCK], ["call_0", "call_1"])
    assert unanswered.show_results([ToolResult("31", "call_0")]) == "weather: 31"


def test_a_result_after_another_turn_says_of_which_call_it_is() -> None:
    asked = CallsAsked()
    asked.add_calls([OSLO, CLOCK], ["a", "b"])
    assert asked.show_results([ToolResult("noon", "b")]) == "clock: noon"
    asked.pass_turn()
    assert asked.show_results([ToolResult("3", "a")]) == 'weather(city="Oslo"): 3'
    asked.add_calls([ROME], ["c"])
    asked.add_calls([CLOCK], ["d"])
    text = asked.show_results([ToolResult("1 pm", "d"), ToolResult("31", "c")])
    assert text == 'weather(city="Rome"): 31\nclock: 1 pm'


@pytest.mark.parametrize(
    ("calls", "results", "reason"),
    [
        ([], [ToolResult("3")], "more results than calls"),
        ([], [ToolResult("3", "a")], "a result of a call that was not made: 'a'|more results than calls"),
        ([(OSLO, "a")], [ToolResult("3", "b")], "a result of a call that was not made: 'b'"),
        ([(OSLO, "a")], [ToolResult("3", "a"), ToolResult("4", "a")], "more results than calls: 'a'"),
        ([(OSLO, "")], [ToolResult("3"), ToolResult("4")], "more results than calls"),
        ([(OSLO, "")], [ToolResult("3", name="weather"), ToolResult("4", name="weather")], "more results than calls"),
        ([(OSLO, "")], [ToolResult("3", name="sundial")], "a result is named after no call before it: 'sundial'"),
        ([(OSLO, "a"), (CLOCK, "b")], [ToolResult("3", "a", "clock")], "a result has the id of one call and the name"),
        ([(OSLO, ""), (ROME, ""), (CLOCK, "")], [ToolResult("3"), ToolResult("4")], "fewer results than calls"),
        (
            [(OSLO, ""), (ROME, ""), (CLOCK, "")],
            [ToolResult("3", name="weather"), ToolResult("noon", name="clock")],
            "fewer results than calls, and no ids: 'weather'",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused(
    calls: list[tuple[Call, str]], results: list[ToolResult], reason: str
) -> None:
    with pytest.raises(RowError, match=f"^({reason})"):
        shown(calls, *results)


def test_ids_are_text_or_numbers() -> None:
    assert [result_identity(given) for given in (None, "", " a ", 7, 0)] == ["", "", "a", "7", "0"]
    for given in (True, [1], {"a": 1}):
        with pytest.raises(RowError, match="neither text nor a number"):
            result_identity(given)

"""How API-Bank's APIs compare a parameter with the expected one, as far as that needs no execution.

The benchmark runs the API on its database, and each API decides by itself whether input, output and exception are as
expected. These are the comparisons of inputs in those decisions, and the normalisations that the API applies before it
looks anything up. Parameters that are not named here must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from itool_pipeline.benchmarks.api_bank.dialogues import SEARCH
from itool_pipeline.calls.python_values import literal_value

Rule = Callable[[Any, Any], bool]
"""(given, expected) → whether the given value is right. Both are of one type."""

_DAY, _SECOND, _BIRTHDAY = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%m-%d"


def _by(canonical: Callable[[Any], Any]) -> Rule:
    return lambda given, expected: bool(canonical(given) == canonical(expected))


def similar_words(given: str, expected: str) -> bool:
    """More than half of all different words are in both."""
    one, other = set(given.split(" ")), set(expected.split(" "))
    return 2 * len(one & other) > len(one | other)


def _similar_words_in_any_case(given: str, expected: str) -> bool:
    return similar_words(given.lower(), expected.lower())


def _date(written: str, read: tuple[str, ...]) -> Rule:
    def canonical(text: str) -> str:
        year, *rest = text.strip().split("-")
        padded = "-".join([year.zfill(4) if len(rest) == 2 else year, *rest])
        for form in read:
            try:
                return datetime.strptime(padded, form).strftime(written)
            except ValueError:
                continue
        return padded

    return _by(canonical)


def _items(*parts: Callable[[Any], str]) -> Rule:
    """Lists of objects in any order, each compared by these parts."""

    def canonical(items: list[Any]) -> Any:
        try:
            return sorted(tuple(part(item) for part in parts) for item in items)
        except (TypeError, KeyError, AttributeError):
            return items

    return _by(canonical)


def _equal(given: Any, expected: Any) -> bool:
    return bool(given == expected)


def _anything(given: Any, expected: Any) -> bool:
    return True


_TRIMMED = _by(str.strip)
_ANY_CASE = _by(lambda text: text.strip().lower())
_KEYWORD = _by(lambda text: text.replace("_", " ").strip().lower())
_FORMULA = _by(lambda text: text.replace(" ", ""))
_ON_DAY = _date(_DAY, (_DAY,))
_AT_SECOND = _date(_SECOND, (_SECOND,))
_BIRTHDAYS = _date(_BIRTHDAY, (_DAY, _BIRTHDAY))
_READINGS = _items(lambda item: str(item["name"]), lambda item: str(item["value"]))
_DEVICES = _items(lambda item: item["name"].strip().lower(), lambda item: item["description"].strip())

RULES: Mapping[str, Mapping[str, Rule]] = {
    "AddAgenda": {"content": similar_words},
    "AddMeeting": {"meeting_topic": similar_words},
    "AddReminder": {"content": _similar_words_in_any_case},
    "AddScene": {"name": _ANY_CASE, "devices": _DEVICES},
    "AppointmentRegistration": {"patient_name": _TRIMMED, "date": _ON_DAY, "doctor_name": _TRIMMED},
    "Calculator": {"formula": _FORMULA},
    "CancelRegistration": {"appointment_id": _TRIMMED},
    "CancelTimedSwitch": {"name": _ANY_CASE, "time": _AT_SECOND},
    # Deletions succeed by content or by time, and the time decides whether the right one was deleted.
    "DeleteAgenda": {"content": _anything, "location": _anything},
    "DeleteReminder": {"content": _anything},
    # Its own decision looks for a parameter that it does not have; this is the one of the other meeting APIs.
    "DeleteMeeting": {"meeting_topic": similar_words},
    "DeleteScene": {"name": _ANY_CASE},
    "Dictionary": {"keyword": _KEYWORD},
    "DocumentQA": {"url": _TRIMMED, "question": _TRIMMED},
    "EmergencyKnowledge": {"symptom": _ANY_CASE},
    "ModifyAgenda": {"content": similar_words},
    "ModifyMeeting": {"meeting_topic": similar_words},
    "ModifyRegistration": {
        "appointment_id": _TRIMMED,
        "new_appointment_date": _ON_DAY,
        "new_appointment_doctor": _TRIMMED,
    },
    "ModifyReminder": {"content": _similar_words_in_any_case},
    "ModifyScene": {"name": _ANY_CASE, "devices": _DEVICES},
    "PlayMusic": {"music_name": _ANY_CASE},
    "QueryAgenda": {"content": similar_words},
    "QueryBalance": {"token": _TRIMMED},
    "QueryHealthData": {"user_id": _ANY_CASE, "start_time": _AT_SECOND, "end_time": _AT_SECOND},
    "QueryHistoryToday": {"date": _BIRTHDAYS},
    "QueryMeeting": {"meeting_topic": similar_words},
    "QueryRegistration": {"patient_name": _TRIMMED, "date": _ON_DAY},
    "QueryReminder": {"content": _similar_words_in_any_case},
    "QueryScene": {"name": _ANY_CASE},
    "QueryStock": {"stock_code": _ANY_CASE, "date": _ON_DAY},
    "RecordHealthData": {"user_id": _ANY_CASE, "time": _AT_SECOND, "health_data": _READINGS},
    "SearchEngine": {"keyword": _ANY_CASE},
    "SendEmail": {"receiver": _ANY_CASE, "subject": _TRIMMED, "content": _TRIMMED},
    "SymptomSearch": {"symptom": _ANY_CASE},
    "TimedSwitch": {"name": _ANY_CASE, "time": _AT_SECOND},
    # Ours: the benchmark asks whether a sentence encoder finds the same APIs, which is not run here.
    SEARCH: {"keywords": _similar_words_in_any_case},
    "Translate": {"src_lang": _anything, "tgt_lang": _ANY_CASE},
    "Wiki": {"keyword": _KEYWORD},
}

OPTIONAL: Mapping[str, frozenset[str]] = {"Translate": frozenset({"src_lang"})}
"""Parameters that may be given where the expected call has none, because the decision does not look at them."""


def agrees(api: str, parameter: str, given: Any, expected: Any) -> bool:
    """Whether a value is right by the API's own comparison."""
    value = in_type_of(given, expected)
    return type(value) is type(expected) and RULES.get(api, {}).get(parameter, _equal)(value, expected)


def in_type_of(given: Any, expected: Any) -> Any:
    """The value in the type of the expected one, as the benchmark converts the text of a call; else as it is.

    Numbers and truth values become text, and text a number, a truth value or a list where it spells one.
    """
    if isinstance(expected, str) and isinstance(given, bool | int | float):
        return str(given)
    if isinstance(given, str) and isinstance(expected, bool | int | float | list):
        spelled = literal_value(given.strip())
        return float(spelled) if isinstance(expected, float) and type(spelled) is int else spelled
    if isinstance(given, tuple) and isinstance(expected, list):
        return list(given)
    return float(given) if isinstance(expected, float) and type(given) is int else given

"""The calls of a turn, however they are spelled: {"id", "function": {"name", "arguments"}} as OpenAI's API has them."""

from __future__ import annotations

from typing import Any

from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import Keys, agreed_value, is_absent, names_one_of, require_agreement
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import expect_that

_ARGUMENTS = ("arguments", "args", "parameters", "input", "params", "kwargs")
_RESULTS = ("result", "output", "response", "observation")
_NAMES = ("name", "tool_name", "toolName")
_IDS = ("id", "call_id", "tool_call_id", "toolCallId")


def level_calls(given: Any, key: str = "tool_calls") -> Any:
    """The calls as a list, of a list, one call, or the JSON text of either; each may be a text itself.

    What is no list of calls is left to be refused as it is. Raises RowError for text that is not JSON.
    """
    calls = decoded_value(given, f"`{key}` is not JSON")
    if is_absent(calls):
        return []
    calls = [calls] if isinstance(calls, dict) else calls
    return [level_call(call) for call in calls] if isinstance(calls, list) else calls


def level_call(given: Any) -> Any:
    """One call: {"function": {"name", "arguments"}}, the same flat, or with another word for the arguments.

    Arguments are an object, or the text of one; null and blank text are none.
    What is no call is left to be refused as it is. Raises RowError for text that is not JSON, and for other keys that
    hold something.
    """
    call = decoded_value(given, "a call is not JSON")
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    if isinstance(function, str):
        call, function = {**call, "name": function}, None
    if function is None and is_absent(agreed_value(call, _NAMES, "a call")):
        return call
    if not isinstance(function, dict | None):
        return call
    beside = {key: value for key, value in call.items() if key not in (*_IDS, "type", "index", "function")}
    inner = {**beside, **{key: value for key, value in (function or {}).items() if value is not None}}
    identity = next((call[key] for key in _IDS if not is_absent(call.get(key))), None)
    return {"id": identity, "function": _function(inner)}


def _function(given: Keys) -> dict[str, Any]:
    name = agreed_value(given, _NAMES, "a call")
    named = {} if name is None else {"name": name}
    for key, value in given.items():
        says = (isinstance(value, dict | list) and bool(value)) or names_one_of(key, _RESULTS)
        unread = key not in (*_ARGUMENTS, *_NAMES) and says and not is_absent(value)
        expect_that(not unread, f"a call has `{key}`, which is not read: {shown_value(value)}")
    otherwise = f"the arguments of a call are not JSON: {shown_value(name)}"
    said = {key: decoded_value(given[key], otherwise) for key in _ARGUMENTS if key in given}
    said = {key: value for key, value in said.items() if value is not None}
    for key, value in said.items():
        require_agreement(next(iter(said)), next(iter(said.values())), key, value, "a call")
    return {**named, "arguments": next(iter(said.values()), {})}

"""A row in any spelling that is read, levelled to the layout of OpenAI's API before the models see it.

Where a row says the same thing twice, in `tools` and `functions` or in `messages` and `conversations`, it must say the
same. What stands beside it and carries meaning is honoured, or the row is refused by the name of its key.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import (
    SYSTEM_KEYS,
    Keys,
    agreed_value,
    is_absent,
    is_learnt,
    is_marked,
    is_right,
    refuse_unread_keys,
    require_agreement,
)
from itool_pipeline.data.conversations.message_spellings import CALL, THOUGHT, level_message, role_of
from itool_pipeline.data.conversations.padding import arguments_without_padding, schema_without_padding
from itool_pipeline.data.conversations.tool_spellings import level_tools
from itool_pipeline.data.conversations.tools_in_text import TOOLS_FROM_TEXT, take_listed_tools
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import RowError, expect_that

_LISTS = ("messages", "conversations", "conversation")
_ANSWERS = ("completion", "response", "answer", "answers", "output", "target", "assistant", "reply", "choices")
_SYSTEM_ROLES = ("system", "developer")
_RENDERED = re.compile(r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[INST\]|<\|user\|>|### Instruction:")

Messages = list[dict[str, Any]]


def level_row(row: Keys, changes: Counter[str]) -> dict[str, Any]:
    """The row as {"messages", "tools"}, each message with `role`, text as `content`, `tool_calls` and `learnt`.

    `tools` is None where the row names none. What was changed is counted in `changes`.

    Raises RowError for what cannot be read, for a key that carries meaning and is not read, and for a row that says
    two different things. What is wrong in itself is left as it is, for the models to refuse.
    """
    refuse_unread_keys(row)
    try:
        return _levelled(row, changes)
    except RecursionError as error:
        raise RowError("nested too deeply to be read") from error


def _levelled(row: Keys, changes: Counter[str]) -> dict[str, Any]:
    messages = _with_system(_messages(row, changes), agreed_value(row, SYSTEM_KEYS), changes)
    tools = _tools(row, messages, changes)
    messages, listed = take_listed_tools(messages, tools)
    changes[TOOLS_FROM_TEXT] += len(listed)
    if listed and not tools:
        tools = level_tools(listed, changes)
    if not is_learnt(row):
        messages = [{**message, "learnt": False} if isinstance(message, dict) else message for message in messages]
    elif not is_right(row):
        messages = _last_answer_not_learnt(messages)
    return {"messages": _without_null_arguments(messages, tools, changes), "tools": tools}


def _messages(row: Keys, changes: Counter[str]) -> list[Any]:
    """The messages, from the one place where they stand."""
    counted: list[tuple[str, list[Any], Counter[str]]] = []
    for key, given in _conversations(row).items():
        counter = Counter[str]()
        expect_that(isinstance(given, list), f"the messages are not a list: {shown_value(given)}")
        counted.append((key, _level_messages(given, counter), counter))
    if not counted:
        keys = [key for key, value in row.items() if not is_absent(value)]
        raise RowError(f"no messages: the row has {', '.join(keys)}" if keys else "no messages")
    (first, messages, counter), *others = counted
    for key, other, _ in others:
        require_agreement(first, messages, key, other)
    changes.update(counter)
    _require_answered(row, messages)
    return messages


def _require_answered(row: Keys, messages: list[Any]) -> None:
    """Raises RowError where the last answer stands beside the messages."""
    last: Keys = next((message for message in reversed(messages) if role_of(message)), {})
    beside = [key for key in _ANSWERS if last.get("role") in ("user", "tool") and not is_absent(row.get(key))]
    expect_that(not beside, f"has `{' and '.join(beside)}` beside messages without an answer, which is not read")


def _conversations(row: Keys) -> dict[str, Any]:
    """The raw messages by the keys under which they stand."""
    found = {key: decoded_value(row.get(key), f"{key} is not JSON") for key in _LISTS}
    found = {key: given for key, given in found.items() if not is_absent(given)}
    for asked, answered in (("prompt", "completion"), ("instruction", "output")):
        if not is_absent(row.get(asked)) and not is_absent(row.get(answered)):
            unread = is_absent(row.get("context"))
            expect_that(unread, f"has `context` beside `{asked}`, which is not read: {shown_value(row.get('context'))}")
            question = _spoken(row, asked, "user")
            if asked == "instruction" and not is_absent(row.get("input")):
                question = [{"role": "user", "content": f"{row[asked]}\n{row['input']}"}]
            found[asked] = [*map(_as_context, question), *_spoken(row, answered, "assistant")]
        for key in (asked, answered) if asked not in found else ():
            if found and key != "output" and not is_absent(row.get(key)):
                _require_within(key, row[key], next(iter(found.values())))
    return found


def _as_context(message: Any) -> Any:
    """A message of a prompt: only the completion is to be learnt, unless the message says otherwise itself."""
    answers = role_of(message) in ("assistant", CALL) and not is_marked(message)
    return {**message, "train": False} if answers else message


def _spoken(row: Keys, key: str, role: str) -> list[Any]:
    """The messages of half a conversation; a text is one of them."""
    given = row[key]
    if isinstance(given, str):
        rendered = _RENDERED.search(given)
        expect_that(
            rendered is None, f"`{key}` is the text of a chat template: {shown_value(rendered and rendered[0])}"
        )
        return [{"role": role, "content": given}]
    messages = [given] if isinstance(given, dict) else given
    expect_that(isinstance(messages, list), f"`{key}` is neither text nor messages: {shown_value(given)}")
    return list(messages)


def _require_within(key: str, given: Any, messages: Any) -> None:
    """Raises RowError unless what stands beside the messages is one of them, or several."""
    said = given if isinstance(given, list) else [given]
    there = [*messages, *(m.get("content", m.get("value")) for m in messages if isinstance(m, dict))]
    expect_that(
        all(one in there for one in said), f"has `{key}`, which is not read beside messages: {shown_value(given)}"
    )


def _level_messages(given: Sequence[Any], changes: Counter[str]) -> list[Any]:
    """All messages; calls that are turns of their own and follow one another are made together."""
    levelled: list[Any] = []
    before = ""
    for message in given:
        role, made = role_of(message), level_message(message, changes)
        if role == before == CALL:
            last = levelled[-1]
            calls, learnt = [*last["tool_calls"], *made[0]["tool_calls"]], last["learnt"] and made[0]["learnt"]
            levelled[-1] = {**last, "tool_calls": calls, "learnt": learnt}
        else:
            levelled += made
        before = before if role == THOUGHT else role
    _require_one_speaker(given)
    return levelled


def _require_one_speaker(messages: Sequence[Any]) -> None:
    """Raises RowError where several speak under one role: a prompt does not show their names."""
    for role in ("system", "user", "assistant"):
        names = {str(m["name"]) for m in messages if role_of(m) == role and not is_absent(m.get("name"))}
        several = len(names) > 1 or any(name.startswith("example_") for name in names)
        expect_that(not several, f"the `name` of a message is not read: {', '.join(sorted(names))} as {role}")


def _with_system(messages: list[Any], system: Any, changes: Counter[str]) -> list[Any]:
    """The messages with the system text that stands beside them in front."""
    if system is None:
        return messages
    spoken = {"role": "system", "content": system} if isinstance(system, str | list) else system
    expect_that(isinstance(spoken, dict), f"the system text is not text: {shown_value(system)}")
    (text,) = level_message({**spoken, "role": "system"}, changes)
    first = messages[0] if messages and isinstance(messages[0], dict) else {}
    if first.get("role") not in _SYSTEM_ROLES:
        return [text, *messages]
    if is_absent(first["content"]):
        return [{**first, "content": text["content"]}, *messages[1:]]
    require_agreement("system", str(text["content"]).strip(), "messages", str(first["content"]).strip())
    return messages


def _tools(row: Keys, messages: list[Any], changes: Counter[str]) -> Any:
    """The tools of the row, from the one place where they stand."""
    places = {key: row[key] for key in ("tools", "functions") if not is_absent(row.get(key))}
    places |= {
        f"{place} message": message["tools"]
        for place, message in enumerate(messages)
        if isinstance(message, dict) and not is_absent(message.get("tools"))
    }
    counted = {key: (counter := Counter[str](), level_tools(given, counter)) for key, given in places.items()}
    if not counted:
        return None
    first, (counter, tools) = next(iter(counted.items()))
    for key, (_, other) in counted.items():
        require_agreement(first, tools, key, other)
    changes.update(counter)
    return [_without_nulls(tool, changes) for tool in tools] if isinstance(tools, list) else tools


def _without_nulls(tool: Any, changes: Counter[str]) -> Any:
    if not isinstance(tool, dict) or not isinstance(tool.get("parameters"), dict):
        return tool
    return {**tool, "parameters": schema_without_padding(tool["parameters"], changes)}


def _without_null_arguments(messages: list[Any], tools: Any, changes: Counter[str]) -> list[Any]:
    """The messages with calls whose arguments have no nulls of padding, as far as their tools are known."""
    schemas: dict[Any, Any] = {}
    for tool in tools if isinstance(tools, list) else []:
        if isinstance(tool, dict) and isinstance(tool["parameters"], dict) and isinstance(tool.get("name"), str):
            schemas[tool["name"]] = tool["parameters"]

    def without(call: Any) -> Any:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
            return call
        name = function.get("name")
        if not isinstance(name, str) or name not in schemas:
            return call
        arguments = arguments_without_padding(function["arguments"], schemas[name], changes)
        return {**call, "function": {**function, "arguments": arguments}}

    def levelled(message: Any) -> Any:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        return {**message, "tool_calls": list(map(without, calls))} if isinstance(calls, list) else message

    return list(map(levelled, messages))


def _last_answer_not_learnt(messages: list[Any]) -> list[Any]:
    answers = [i for i, message in enumerate(messages) if role_of(message) == "assistant"]
    return [{**message, "learnt": False} if i in answers[-1:] else message for i, message in enumerate(messages)]

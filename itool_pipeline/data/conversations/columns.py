"""Rows whose columns, keys and roles have names of their own, as LLaMA-Factory's `dataset_info.json` tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itool_pipeline.config import ColumnNames, MessageTags
from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import SYSTEM_KEYS, Keys, is_absent, require_agreement
from itool_pipeline.data.row_models import shown_value
from itool_pipeline.data.rows import expect_that

_TAKES_THE_PLACE_OF: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "tools": ("tools", "functions"),
    "system": SYSTEM_KEYS,
    "prompt": ("instruction", "prompt"),
    "query": ("input",),
    "response": ("output", "completion"),
}
"""What a named column is → the keys of the usual layouts that it stands for, first the one that it is given."""
_ROLES = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}


def absent_columns(names: ColumnNames, rows: list[Keys]) -> list[str]:
    """The columns that are named, and that none of the rows has."""
    return [f"columns.{what}: {name}" for what, name in _named(names) if not any(name in row for row in rows)]


def renamed_row(row: Keys, names: ColumnNames, tags: MessageTags) -> dict[str, Any]:
    """The row under the usual names. Keys whose place a named column takes are not looked at.

    Raises RowError for messages that cannot be read, or have a key under both names with different values.
    """
    named = dict(_named(names))
    replaced = {key for what in named for key in _TAKES_THE_PLACE_OF[what]} | set(named.values())
    renamed = {key: value for key, value in row.items() if key not in replaced}
    renamed |= {_TAKES_THE_PLACE_OF[what][0]: row.get(name) for what, name in named.items()}
    if not tags.model_dump(exclude_none=True):
        return renamed
    for key in _TAKES_THE_PLACE_OF["messages"]:
        if not is_absent(renamed.get(key)):
            renamed[key] = _renamed_messages(renamed[key], tags)
    return renamed


def _named(names: ColumnNames) -> list[tuple[str, str]]:
    return list(names.model_dump(exclude_none=True).items())


def _renamed_messages(given: Any, tags: MessageTags) -> Any:
    messages = decoded_value(given, "the messages are not JSON")
    expect_that(isinstance(messages, list), f"the messages are not a list: {shown_value(messages)}")
    return [_renamed_message(one, tags) if isinstance(one, dict) else one for one in messages]


def _renamed_message(message: Keys, tags: MessageTags) -> dict[str, Any]:
    renamed = dict(message)
    for own, usual in ((tags.role_tag, "role"), (tags.content_tag, "content")):
        if own is not None and own in message and own != usual:
            if not is_absent(message.get(usual)):
                require_agreement(own, message[own], usual, message[usual], "a message")
            del renamed[own]
            renamed[usual] = message[own]
    roles = {value: _ROLES[tag] for tag, value in tags.model_dump(exclude_none=True).items() if tag in _ROLES}
    for key in ("role", "from"):
        if isinstance(renamed.get(key), str) and renamed[key] in roles:
            renamed[key] = roles[renamed[key]]
    return renamed

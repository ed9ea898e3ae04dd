"""Which columns hold messages and tools where they have names of their own: a guess, for a person to confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from itool_pipeline.config import ColumnNames
from itool_pipeline.data.conversations.json_texts import decoded_value
from itool_pipeline.data.conversations.known_keys import Keys, describes_tools, is_absent
from itool_pipeline.data.conversations.message_spellings import role_of
from itool_pipeline.data.layouts import CHAT, layout_of
from itool_pipeline.data.rows import RowError

_TOOLS = ("tools", "functions")


def guessed_columns(rows: Sequence[Keys]) -> ColumnNames:
    """The columns as they seem to be: named are only those that have no usual name, and that no other could be."""
    layouts = set(map(layout_of, rows)) - {""}
    if layouts - {CHAT}:
        return ColumnNames()
    tools = any(not is_absent(row.get(key)) for row in rows for key in _TOOLS)
    return ColumnNames(
        messages=None if layouts else _only(rows, _holds_messages),
        tools=None if tools else _only(rows, describes_tools),
    )


def _only(rows: Sequence[Keys], holds: Callable[[Any], bool]) -> str | None:
    """The key under which at least one row holds it, if there is a single one, and it can be named in a config."""
    found = {key for row in rows for key, value in row.items() if key.isprintable() and key and holds(_decoded(value))}
    return found.pop() if len(found) == 1 else None


def _holds_messages(value: Any) -> bool:
    try:
        return isinstance(value, list) and len(value) > 1 and all(map(role_of, value))
    except RowError:
        return False


def _decoded(value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] != "[":
        return value
    try:
        return decoded_value(value, "not JSON")
    except RowError:
        return None

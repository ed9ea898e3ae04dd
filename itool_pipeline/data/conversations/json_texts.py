"""JSON that was written as text once more, as files do whose columns cannot hold objects of their own."""

from __future__ import annotations

import json
from typing import Any

from itool_pipeline.calls.python_values import literal_value
from itool_pipeline.calls.types import ToolCallSyntaxError
from itool_pipeline.data.rows import RowError, parse_json

_TIMES = 3
"""How often a text may be encoded."""


def decoded_value(value: Any, otherwise: str) -> Any:
    """The value, or what it is the text of, also when it was encoded again and again. Blank text is None.

    The text is JSON, or a dictionary or list as Python prints it where JSON has the same.

    Raises RowError with `otherwise` and why when the text is neither.
    """
    for _ in range(_TIMES):
        if not isinstance(value, str):
            break
        value = _decoded_once(value, otherwise) if value.strip() else None
    return value


def _decoded_once(text: str, otherwise: str) -> Any:
    try:
        return parse_json(text, otherwise)
    except RowError:
        printed = _printed_by_python(text)
        if printed is None:
            raise
        return printed


def _printed_by_python(text: str) -> Any:
    """The dictionary or list that Python prints so; None for anything else, and for what JSON cannot hold alike."""
    if text.strip()[:1] not in ("{", "["):
        return None
    try:
        value = literal_value(text.strip())
        same = json.loads(json.dumps(value))
    except (ToolCallSyntaxError, TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and same == value else None

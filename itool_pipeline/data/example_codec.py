"""An example as values of table columns, and back: the one form in which examples are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.types import Example, Expectation, Message

EXAMPLE_COLUMNS = (
    "example_id",
    "source",
    "category",
    "group_id",
    "language",
    "expects",
    "tools",
    "messages",
    "response",
    "gold",
)
"""The columns that an example is made of; the others of its table follow from it."""


def encode_example(example: Example) -> dict[str, str]:
    """The example's columns, nested values as JSON text; `decode_example` inverts it.

    Raises ValueError, TypeError or RecursionError for a value that JSON does not know.
    """
    return {
        "example_id": example.id,
        "source": example.source,
        "category": example.category,
        "group_id": example.group,
        "language": example.language,
        "expects": str(example.expects),
        "tools": _json(list(example.tools)),
        "messages": _json([asdict(message) for message in example.messages]),
        "response": example.response,
        "gold": _json([asdict(call) for call in example.gold]),
    }


def decode_example(row: Mapping[str, Any]) -> Example:
    """The example of a row that has EXAMPLE_COLUMNS."""
    return Example(
        id=row["example_id"],
        source=row["source"],
        category=row["category"],
        messages=tuple(Message(**message) for message in json.loads(row["messages"])),
        tools=tuple(json.loads(row["tools"])),
        response=row["response"],
        gold=tuple(
            GoldCall(call["name"], {name: tuple(accepted) for name, accepted in call["arguments"].items()})
            for call in json.loads(row["gold"])
        ),
        group=row["group_id"],
        language=row["language"],
        expects=Expectation(row["expects"]),
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

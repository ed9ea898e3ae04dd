"""Rows that are no examples: kept with the reason, so that nothing is dropped in silence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from itool_pipeline.core.types import Example

EXCERPT_CHARS = 200


class RowError(ValueError):
    """A row is not what its data set promises. The message is the reason that a person reads."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was left out.

    source    the data set
    position  where it stands there: file and line, or row and turn
    reason    why, in words
    excerpt   the beginning of the row
    """

    source: str
    position: str
    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What reading a data set gives: the examples, and the rows that could not become one."""

    examples: tuple[Example, ...]
    refused: tuple[Refused, ...]


def excerpt(row: Any) -> str:
    """The first characters of a row, on one line."""
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


def expect(condition: bool, reason: str) -> None:
    """Raise RowError with the reason unless the condition holds."""
    if not condition:
        raise RowError(reason)

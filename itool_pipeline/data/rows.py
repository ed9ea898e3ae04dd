"""Rows of a data set on their way to examples: each becomes one or more examples, or is quarantined with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from itool_pipeline.core.types import Example, Progress

EXCERPT_CHARS = 200


class RowError(ValueError):
    """A row is not what its data set promises. The message is the reason that a person reads.

    It is `kind: particulars`, or the kind alone. What only this row has, such as a name, goes behind the colon.
    """


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row, or one turn of it, that could not become an example.

    source    the data set
    position  where it stands there: file and line, or row and turn
    reason    why, in words
    excerpt   the beginning of the row
    """

    source: str
    position: str
    reason: str
    excerpt: str

    @property
    def kind(self) -> str:
        """The reason without the particulars of this row: equal for rows with the same trouble."""
        return self.reason.partition(": ")[0]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """One turn that its data set says is not to be learnt from.

    position  where it stands
    reason    why, in words that are equal for all turns of the same kind
    """

    position: str
    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What was changed of a row that was read, in words that are equal for the same change, and how often in it."""

    what: str
    times: int


Row: TypeAlias = Example | Quarantined | PassedOver | Changed


class Source(Protocol):
    """A data set that is read a row at a time, as often as it is asked to be.

    Every row of the data set gives at least one `Row`, and one of `Changed` for each kind of change beside it. An
    example's `group` names the conversation it is from.
    `progress` is called with the kB read and their total.
    """

    def __call__(self, progress: Progress) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """What reading a small data set as a whole gives."""

    examples: tuple[Example, ...]
    quarantined: tuple[Quarantined, ...]


def row_excerpt(row: Any) -> str:
    """The first characters of a row, on one line; what is no character is shown as `?`."""
    if isinstance(row, bytes):
        text = row.decode("utf-8", "replace")
    else:
        try:
            text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
        except RecursionError:  # what could be read at one depth of the stack may be too deep for another
            text = "(nested too deeply to be shown)"
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = " ".join(text.split())
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"


def parse_json(text: str, otherwise: str = "not JSON") -> Any:
    """The JSON document in the text. Raises RowError with `otherwise` and why it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{otherwise}: {error}") from error


def json_object(line: str | bytes) -> dict[str, Any]:
    """The JSON object in a line of text or UTF-8. Raises RowError when it holds something else."""
    try:
        row = parse_json(line if isinstance(line, str) else line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: {error}") from error
    expect_that(isinstance(row, dict), "not a JSON object")
    return dict(row)


def expect_that(condition: bool, reason: str) -> None:
    """Raise RowError with the reason unless the condition holds."""
    if not condition:
        raise RowError(reason)

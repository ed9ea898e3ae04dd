"""A call as a model writes it, as far as it has been written, and as an answer expects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One parsed tool call. `arguments` keeps the order in which they were written."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class BegunCall:
    """A call as far as it has been read: its `(` has been seen, and the end of each of its arguments.

    `closed` says that its `)` has been seen too.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True, slots=True)
class GoldCall:
    """One expected call.

    `arguments` maps each known parameter to the values that are accepted for it. In BFCL, and only there, the empty
    string among them means that the parameter may be left out (the convention of its possible answers).
    """

    name: str
    arguments: Mapping[str, tuple[Any, ...]]


class ToolCallSyntaxError(ValueError):
    """The text is no list of tool calls. `position` is a character offset, `reason` says what is wrong there."""

    def __init__(self, position: int, reason: str, *, ended: bool = False) -> None:
        super().__init__(f"{reason} (at character {position})")
        self.position = position
        self.reason = reason
        self.ended = ended
        """True when the text merely stopped: more text could still make it right."""

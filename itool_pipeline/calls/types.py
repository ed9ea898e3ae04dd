"""A call as a model writes it, and a call as an answer expects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One parsed tool call. `arguments` keeps the order in which they were written."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GoldCall:
    """One expected call.

    `arguments` maps each known parameter to the values that are accepted for it. In BFCL, and only there, the empty
    string among them means that the parameter may be left out (the convention of its possible answers).
    """

    name: str
    arguments: Mapping[str, tuple[Any, ...]]

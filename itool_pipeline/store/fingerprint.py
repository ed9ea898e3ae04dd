"""Fingerprints: the name of an artifact is made from what determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

DIGITS = 16


def fingerprint_of(**parts: Any) -> str:
    """16 hex digits of the sha256 of `parts` as canonical JSON.

    The order of keys does not matter; values do, and so do their kinds (1, 1.0, true and "1" all differ). Floats
    enter by `repr`, tuples as lists, pydantic models as their JSON dump. Raises TypeError, naming the place, for any
    other type: a set has no order, a path belongs to one machine, and an object's `str` may hold its address.
    """
    text = json.dumps({key: _canonical(value, key) for key, value in parts.items()}, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:DIGITS]


def _canonical(value: Any, place: str) -> Any:
    if isinstance(value, BaseModel):
        return _canonical(value.model_dump(mode="json"), place)
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"fingerprint: {place}: keys must be text, not {type(bad[0]).__name__} ({bad[0]!r})")
        return {key: _canonical(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"fingerprint: {place}: cannot take a {type(value).__name__} ({value!r})")

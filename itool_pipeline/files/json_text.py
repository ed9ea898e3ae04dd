"""JSON for people and for DuckDB, out of the values that steps report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel


def plain(value: Any) -> Any:
    """`value` in JSON's own types.

    Knows pydantic models, mappings with text keys, lists, tuples, numpy scalars, enums, times and paths. JSON has no
    NaN and no infinities: they become the texts "NaN", "Infinity" and "-Infinity", which DuckDB casts back to DOUBLE.
    Raises TypeError, naming the type, for anything else.
    """
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"JSON needs text keys, not {bad[0]!r}")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text of `plain(value)`, keys in the order given."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)

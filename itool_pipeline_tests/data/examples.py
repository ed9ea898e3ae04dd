"""Short ways to write examples in tests, and to read data sets."""

from __future__ import annotations

from collections.abc import Iterable

from itool_pipeline.core.types import Example, Message
from itool_pipeline.data.rows import Quarantined, Row, Rows


def example(
    identity: str,
    question: str = "Is it warm?",
    *,
    tools: tuple[str, ...] = ("f",),
    category: str = "simple_python",
    group: str = "",
    response: str = "[f()]",
) -> Example:
    return Example(
        id=identity,
        source="bfcl",
        category=category,
        messages=(Message("user", question),),
        tools=tuple({"name": name, "description": "", "parameters": {"properties": {}}} for name in tools),
        response=response,
        gold=(),
        group=group or identity,
    )


def gathered(rows: Iterable[Row]) -> Rows:
    """Everything that a source gives, examples and quarantined rows apart."""
    found = list(rows)
    return Rows(
        tuple(row for row in found if isinstance(row, Example)),
        tuple(row for row in found if isinstance(row, Quarantined)),
    )

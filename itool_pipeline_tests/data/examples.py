"""A short way to write an example in tests."""

from __future__ import annotations

from itool_pipeline.core.types import Example, Message


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

"""Renders tool calls as text that reading gives back, and gold answers as the preferred call among those accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from itool_pipeline.calls.tool_schema import POSITIONAL, Tool, find_tool, parameter_schemas, required_parameters
from itool_pipeline.calls.types import Call, GoldCall

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile('[\x00-\x1f"\\\\\x7f-\x9f\ud800-\udfff]')


def render_calls(calls: Iterable[Call]) -> str:
    """The calls as text with Python literals and double quotes: `[f(a=1, b="x"), g()]`.

    Parsing it with `parse_calls` gives the calls back. Raises TypeError for a value that has no literal.
    """
    return f"[{', '.join(_render_call(call) for call in calls)}]"


def render_gold(gold: Iterable[GoldCall], tools: Sequence[Tool] = ()) -> str:
    """The preferred answer among those that a gold answer accepts (BFCL's convention), as text.

    A parameter takes its first accepted value and is left out where leaving it out comes first, unless the tool's
    schema requires it; one that may be left out and that the schema does not know is left out too. The values of
    dictionaries, alone or in a list, are lists of accepted values again.
    """
    return render_calls(Call(call.name, _preferred(call, tools)) for call in gold)


def _preferred(call: GoldCall, tools: Sequence[Tool]) -> dict[str, Any]:
    tool = find_tool(tools, call.name)
    needed = required_parameters(tool) if tool else ()
    unknown = call.arguments.keys() - parameter_schemas(tool).keys() if tool else set()
    chosen: dict[str, Any] = {}
    for name, accepted in call.arguments.items():
        omitted = not accepted or (accepted[0] == "" and name not in needed) or ("" in accepted and name in unknown)
        if not omitted:
            chosen[name] = _first(next((value for value in accepted if value != ""), ""))
    return chosen


def _first(value: Any) -> Any:
    """The first accepted of each of a dictionary's values, also for dictionaries in a list."""
    if isinstance(value, Mapping):
        return {key: options[0] for key, options in value.items() if options and options[0] != ""}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [_first(item) for item in value]
    return value


def _render_call(call: Call) -> str:
    parts = []
    for name, value in call.arguments.items():
        label = "" if POSITIONAL.fullmatch(name) else "**" if name == "**" else f"{name}="
        parts.append(f"{label}{_render(value)}")
    return f"{call.name}({', '.join(parts)})"


def _render(value: Any) -> str:
    match value:
        case str():
            return f'"{_TO_ESCAPE.sub(_escaped, value)}"'
        case list():
            return f"[{', '.join(map(_render, value))}]"
        case tuple():
            return f"({', '.join(map(_render, value))}{',' if len(value) == 1 else ''})"
        case Mapping():
            return f"{{{', '.join(f'{_render(key)}: {_render(item)}' for key, item in value.items())}}}"
        case float() if not math.isfinite(value):
            return "(1e999 - 1e999)" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
        case bool() | int() | float() | complex() | bytes() | None:
            return repr(value)
    raise TypeError(f"{type(value).__name__} has no literal in a tool call")


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    width = "x{:02x}" if ord(character) < 256 else "u{:04x}"
    return _ESCAPES.get(character, "\\" + width.format(ord(character)))

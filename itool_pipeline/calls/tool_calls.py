"""Tool calls as text: `[f(a=1, b="x"), g()]`, the format of BFCL and ToolACE, parsed without `eval` and rendered back.

Two readings of one grammar. The *official* one takes what BFCL's prompting decoder takes and gives the same names and
values; it decides scores. The one with *quirks* also takes what data sets hold: function names with spaces, slashes
or parentheses, argument names such as `from` or `sort-by`, and the JSON literals true, false and null.

A positional argument has no name in the text. If the i-th argument of a call (from 0) is positional, it is kept under
the name `*i`, an unpacked mapping under `**`; no other argument can have these names. `bind_positional` gives them the
names that the tool's schema says. The official decoder drops positional arguments, so a decision like its drops them.

Not read, where the official decoder reads them only to drop or refuse them: lambda, comprehensions, sets, `:=`,
`await`, the inside of f-strings, and nesting beyond 60 levels. Never run, where that decoder runs it: code within
arithmetic, such as `len(x) + 1`; it is a syntax error here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from itool_pipeline.calls.call_reader import BegunCall, CallReader
from itool_pipeline.calls.scanner import ToolCallSyntaxError
from itool_pipeline.calls.tool_schema import Tool, find_tool, properties, required
from itool_pipeline.calls.types import Call, GoldCall

__all__ = [
    "ToolCallSyntaxError",
    "bind_positional",
    "finished_calls",
    "looks_like_call",
    "parse_calls",
    "parse_response",
    "render_calls",
    "render_gold",
]

_WRAPPING = "`\n "
_POSITIONAL = re.compile(r"\*[0-9]+")
_BEGUN = re.compile(r"""\[\s*(?:[^\s()\[\]{}"=,][^()\[\]"=\n]*(?:\(|\Z)|\Z)|[^\W\d][\w.]*\(""")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile('[\x00-\x1f"\\\\\x7f-\x9f\ud800-\udfff]')


def parse_calls(text: str, names: Collection[str] = ()) -> tuple[Call, ...]:
    """The calls of a data set's gold answer, quirks and all. The text is one `[...]` and nothing else.

    names   the functions that may be called: needed where a name holds a comma, a quote or a brace

    Raises ToolCallSyntaxError.
    """
    return _calls(CallReader(text.strip(), names, quirks=True, free=True).read())


def parse_response(text: str, names: Collection[str] = (), *, quirks: bool = False) -> tuple[Call, ...]:
    """The calls of a model's response, by BFCL's rule: backticks and space around it go, missing brackets are added.

    names   the functions that may be called: needed for those that are no dotted Python names
    quirks  take also what `parse_calls` takes; any text as a function name only if the response begins with `[`

    Raises ToolCallSyntaxError when BFCL's decoder fails. An empty response decodes to no calls.
    """
    bare = text.strip(_WRAPPING)
    begins = bare.startswith("[")
    listed = bare if begins else f"[{bare}"
    listed = listed if listed.endswith("]") else f"{listed}]"
    return _calls(CallReader(listed, names, quirks=quirks, free=quirks and begins).read())


def finished_calls(
    partial: str, names: Collection[str] = (), *, quirks: bool = False
) -> tuple[list[BegunCall], ToolCallSyntaxError | None]:
    """What stands for certain in a response that may stop anywhere: each call whose `(` and each argument whose end
    has been seen; and the error that ended the reading, `ended` if more text could mend it.
    """
    bare = partial.lstrip(_WRAPPING)
    begins = bare.startswith("[")
    try:
        reader = CallReader(bare if begins else f"[{bare}", names, quirks=quirks, free=quirks and begins)
    except ToolCallSyntaxError as error:
        return [], error
    try:
        return reader.read(), None
    except ToolCallSyntaxError as error:
        return reader.begun, error


def looks_like_call(text: str) -> bool:
    """Whether a response, which may stop anywhere, has begun a tool call rather than plain text.

    It has if it opens with `[` and what follows can still be a function name, or is a name and a `(`; or if it opens
    with `name(`.
    """
    return _BEGUN.match(text.lstrip(_WRAPPING)) is not None


def bind_positional(call: Call, tools: Sequence[Tool]) -> Call:
    """The call with its positional arguments named after the tool's parameters, in their order.

    One that finds no parameter, or one that has its value already, keeps its positional name.
    """
    tool = find_tool(tools, call.name)
    order = list(properties(tool)) if tool else []
    bound: dict[str, Any] = {}
    for key, value in call.arguments.items():
        index = int(key[1:]) if _POSITIONAL.fullmatch(key) else len(order)
        free = index < len(order) and order[index] not in call.arguments
        bound[order[index] if free else key] = value
    return Call(call.name, bound)


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


def _calls(begun: Iterable[BegunCall]) -> tuple[Call, ...]:
    return tuple(Call(call.name, call.arguments) for call in begun)


def _preferred(call: GoldCall, tools: Sequence[Tool]) -> dict[str, Any]:
    tool = find_tool(tools, call.name)
    needed = required(tool) if tool else ()
    unknown = call.arguments.keys() - properties(tool).keys() if tool else set()
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
        label = "" if _POSITIONAL.fullmatch(name) else "**" if name == "**" else f"{name}="
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

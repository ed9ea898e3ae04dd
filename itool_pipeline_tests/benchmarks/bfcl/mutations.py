"""Gold answers made wrong, or written otherwise, in many small ways: material to compare two checkers on."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.tool_schema import find_tool, parameter_schemas, tool_names
from itool_pipeline.calls.types import Call
from itool_pipeline.core.types import Example

Calls = list[Call]
Draw = random.Random


def answers(example: Example, draw: Draw) -> Calls:
    """Calls with one of the accepted values, drawn anew, for each parameter; optional ones now and then left out."""
    calls = []
    for gold in example.gold:
        chosen: dict[str, Any] = {}
        for name, accepted in gold.arguments.items():
            value = draw.choice(accepted) if accepted else ""
            if not (value == "" and "" in accepted and draw.random() < 0.8):
                chosen[name] = _concrete(value, draw)
        calls.append(Call(gold.name, chosen))
    return calls


def _concrete(value: Any, draw: Draw) -> Any:
    if isinstance(value, dict):
        picked = {key: draw.choice(options) if options else "" for key, options in value.items()}
        return {key: item for key, item in picked.items() if item != "" or draw.random() < 0.3}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [_concrete(item, draw) for item in value]
    return value


def _replaced(calls: Calls, index: int, name: str, arguments: dict[str, Any]) -> Calls:
    return [*calls[:index], Call(name, arguments), *calls[index + 1 :]]


def rename_function(example: Example, calls: Calls, draw: Draw) -> Calls:
    index = draw.randrange(len(calls))
    name = draw.choice([*tool_names(example.tools), calls[index].name + "_v2", calls[index].name.upper()])
    return _replaced(calls, index, name, dict(calls[index].arguments))


def rename_argument(example: Example, calls: Calls, draw: Draw) -> Calls:
    return _on_argument(calls, draw, lambda arguments, name: {k + "_" * (k == name): v for k, v in arguments.items()})


def drop_argument(example: Example, calls: Calls, draw: Draw) -> Calls:
    return _on_argument(calls, draw, lambda arguments, name: {k: v for k, v in arguments.items() if k != name})


def change_value(example: Example, calls: Calls, draw: Draw) -> Calls:
    return _on_argument(calls, draw, lambda arguments, name: {**arguments, name: _changed(arguments[name], draw)})


def retype_value(example: Example, calls: Calls, draw: Draw) -> Calls:
    return _on_argument(calls, draw, lambda arguments, name: {**arguments, name: _retyped(arguments[name], draw)})


def make_positional(example: Example, calls: Calls, draw: Draw) -> Calls:
    return _on_argument(
        calls,
        draw,
        lambda arguments, name: {
            (f"*{i}" if i <= list(arguments).index(name) else k): v for i, (k, v) in enumerate(arguments.items())
        },
    )


def reorder_arguments(example: Example, calls: Calls, draw: Draw) -> Calls:
    index = draw.randrange(len(calls))
    items = list(calls[index].arguments.items())
    draw.shuffle(items)
    return _replaced(calls, index, calls[index].name, dict(items))


def add_argument(example: Example, calls: Calls, draw: Draw) -> Calls:
    index = draw.randrange(len(calls))
    tool = find_tool(example.tools, calls[index].name)
    name = draw.choice([*(parameter_schemas(tool) if tool else ()), "extra"])
    value: Any = draw.choice(["", "x", 0, 1, 2.5, True, None, [], ["x"], {}])
    return _replaced(calls, index, calls[index].name, {**calls[index].arguments, name: value})


def reorder_calls(example: Example, calls: Calls, draw: Draw) -> Calls:
    return draw.sample(calls, len(calls))


def duplicate_call(example: Example, calls: Calls, draw: Draw) -> Calls:
    return [*calls, draw.choice(calls)]


def drop_call(example: Example, calls: Calls, draw: Draw) -> Calls:
    index = draw.randrange(len(calls))
    return [*calls[:index], *calls[index + 1 :]]


def keep(example: Example, calls: Calls, draw: Draw) -> Calls:
    return calls


def _on_argument(calls: Calls, draw: Draw, change: Callable[[dict[str, Any], str], dict[str, Any]]) -> Calls:
    index = draw.randrange(len(calls))
    arguments = dict(calls[index].arguments)
    if not arguments:
        return calls
    return _replaced(calls, index, calls[index].name, change(arguments, draw.choice(list(arguments))))


def _changed(value: Any, draw: Draw) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return draw.choice([value + 1, -value, value * 10, value / 2])
        case str():
            return draw.choice([value.upper(), value + "!", f" {value}.", value[1:], value.replace(" ", "-"), "other"])
        case list() if value:
            place = draw.randrange(len(value))
            changed = [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
            return draw.choice([changed, value[::-1], value[:-1], [*value, value[0]], []])
        case dict() if value:
            key = draw.choice(list(value))
            without = {k: v for k, v in value.items() if k != key}
            return draw.choice([{**value, key: _changed(value[key], draw)}, without, {**value, "more": 1}, {}])
    return draw.choice(["x", None, 0])


def _retyped(value: Any, draw: Draw) -> Any:
    options: list[Any] = [str(value), [value], {"value": value}, None, True]
    if isinstance(value, int | float):
        options += [float(value), int(value), bool(value)]
    if isinstance(value, list):
        options += [tuple(value), dict(enumerate(value)), [str(item) for item in value], value and value[0]]
    if isinstance(value, str):
        options += [list(value), tuple(value), value.encode(), 1]
    return draw.choice(options)


CALL_MUTATIONS = (
    keep,
    rename_function,
    rename_argument,
    drop_argument,
    change_value,
    retype_value,
    make_positional,
    reorder_arguments,
    add_argument,
    reorder_calls,
    duplicate_call,
    drop_call,
)

_TEXT_CHANGES: tuple[Callable[[str, Draw], str], ...] = (
    lambda text, draw: text[1:-1],
    lambda text, draw: f"```{text}```",
    lambda text, draw: f"{text}\n",
    lambda text, draw: text[:-1],
    lambda text, draw: text.replace('"', "'"),
    lambda text, draw: text.replace(", ", ",\n  "),
    lambda text, draw: text.replace("True", "true").replace("None", "null"),
    lambda text, draw: text.replace('"', ""),
    lambda text, draw: f"Here you are: {text}",
    lambda text, draw: f"{text} # as asked",
    lambda text, draw: text[: draw.randrange(len(text) + 1)],
    lambda text, draw: _without_one(text, draw.randrange(len(text))),
    lambda text, draw: "I cannot do that.",
)


def _without_one(text: str, index: int) -> str:
    return text[:index] + text[index + 1 :]


_JSON_TEXT_CHANGES: tuple[Callable[[str, Draw], str], ...] = (
    lambda text, draw: f"{text}\n",
    lambda text, draw: text[:-1],
    lambda text, draw: text.replace('"', "'"),
    lambda text, draw: text.replace(", ", ",\n  "),
    lambda text, draw: text.replace("true", "True").replace("null", "None"),
    lambda text, draw: text.replace('"', ""),
    lambda text, draw: text.replace('": ', '":'),
    lambda text, draw: text.replace("arguments", "parameters") if "arguments" in text else text.replace("meters", ""),
    lambda text, draw: f"Here you are: {text}",
    lambda text, draw: f"{text}\nDone.",
    lambda text, draw: text.replace("; ", ", "),
    lambda text, draw: f"[{text}]".replace("}; {", "}, {"),
    lambda text, draw: f"<|python_tag|>{text}",
    lambda text, draw: text.replace("<tool_call>\n", "<tool_call>", 1),
    lambda text, draw: text.replace("}}", "}", 1),
    lambda text, draw: text.replace('{"', '{"name": "x", "', 1),
    lambda text, draw: text.replace('"name"', '"id": [1, {"a": "}"}], "name"', 1),
    lambda text, draw: text[: draw.randrange(len(text) + 1)],
    lambda text, draw: _without_one(text, draw.randrange(len(text))) if text else text,
    lambda text, draw: "I can't do that.",
)


def mutated_answer(example: Example, draw: Draw, syntax: CallSyntax = PYTHON_CALLS) -> tuple[str, str]:
    """(name of the last mutation, response): one or two changes of the calls, and one of the text in a fifth."""
    calls = answers(example, draw)
    name = ""
    for _ in range(draw.choice([1, 1, 2])):
        mutation = draw.choice(CALL_MUTATIONS)
        name = mutation.__name__
        calls = mutation(example, calls, draw) if calls else calls
    try:
        text = syntax.render_calls(calls)
    except TypeError:  # a value that JSON does not have
        name, text = "keep", syntax.render_calls(answers(example, draw))
    if draw.random() < 0.2:
        name = "text"
        text = draw.choice(_TEXT_CHANGES if syntax is PYTHON_CALLS else _JSON_TEXT_CHANGES)(text, draw)
    return name, text

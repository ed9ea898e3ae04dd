"""Made-up conversations with tools, and the examples that they hold: what any spelling of them must be read as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Tool:
    """A function. `required` are names among `properties`, whose values are JSON Schemas."""

    name: str
    description: str
    properties: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...]

    def schema(self) -> dict[str, Any]:
        properties = {name: dict(schema) for name, schema in self.properties.items()}
        return {"type": "object", "properties": properties, "required": list(self.required)}

    def described(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.schema()}


@dataclass(frozen=True)
class Made:
    """A call, and what came back."""

    name: str
    arguments: Mapping[str, Any]
    result: str


@dataclass(frozen=True)
class Exchange:
    """What the user says, rounds of calls made together, and the words of the answer at the end."""

    question: str
    rounds: tuple[tuple[Made, ...], ...]
    answer: str


@dataclass(frozen=True)
class Conversation:
    """One conversation. An empty `system` is none."""

    system: str
    tools: tuple[Tool, ...]
    exchanges: tuple[Exchange, ...]

    @property
    def rounds(self) -> list[tuple[Made, ...]]:
        return [made for exchange in self.exchanges for made in exchange.rounds]

    @property
    def made(self) -> list[Made]:
        return [call for made in self.rounds for call in made]


@dataclass(frozen=True)
class Expected:
    """An example as it must be read: tools, turns before the answer, the answer, and the calls in it."""

    tools: Sequence[Mapping[str, Any]]
    context: Sequence[tuple[str, str]]
    response: str
    gold: Sequence[tuple[str, Mapping[str, Any]]]


def expected_examples(conversation: Conversation) -> list[Expected]:
    """One for each round of calls and each answer in words. Results made together are one turn."""
    tools = [tool.described() for tool in conversation.tools]
    turns: list[tuple[str, str]] = [("system", conversation.system)] if conversation.system else []
    examples = []
    for exchange in conversation.exchanges:
        turns.append(("user", exchange.question))
        for made in exchange.rounds:
            text = f"[{', '.join(map(_call_text, made))}]"
            examples.append(Expected(tools, list(turns), text, [(call.name, call.arguments) for call in made]))
            results = [f"{call.name}: {call.result}" if len(made) > 1 else call.result for call in made]
            turns += [("assistant", text), ("tool", "\n".join(results))]
        examples.append(Expected(tools, list(turns), exchange.answer, []))
        turns.append(("assistant", exchange.answer))
    return examples


def _call_text(call: Made) -> str:
    arguments = ", ".join(f"{name}={_literal(value)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def _literal(value: Any) -> str:
    """A Python literal with double quotes. Texts here hold nothing that must be escaped but quotes and backslashes."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
    return repr(value)


_LETTERS = "abcdefghijklmnopqrstuvwxyzåßж日"
_names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=9).filter(lambda name: name.strip("_"))
_tool_names = st.builds(lambda *parts: "_".join(parts), _names, st.sampled_from(["of", "for", "at"]), _names)
_words = st.lists(st.text(_LETTERS, min_size=1, max_size=8), min_size=2, max_size=6).map(" ".join)
_sentences = st.builds(str.__add__, _words, st.sampled_from(["?", ".", "!", " (5 %)", ", and 1.5 of 'it'", ': "yes"']))
_texts = st.text(_LETTERS + " .,-/_*^'\"\\{}[]<>=&1234567890", min_size=1, max_size=12).map(str.strip).filter(bool)
_results = st.one_of(_sentences, st.sampled_from(['{"n": 3}', "[1, 2]", "3", "<b>so</b>", "[f(a=1)]", "ERROR: no"]))

_numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 3) or 0.5)
_simple: Mapping[str, st.SearchStrategy[Any]] = {
    "string": _texts,
    "integer": st.integers(-(10**9), 10**9),
    "number": _numbers.filter(lambda number: number != int(number)),
    "boolean": st.booleans(),
}


@st.composite
def _parameters(draw: st.DrawFn) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A JSON Schema, and the values that it allows."""
    kind = draw(st.sampled_from([*_simple, "array", "object", "nullable", "enum"]))
    if kind == "enum":
        options = draw(st.lists(_texts, min_size=1, max_size=3, unique=True))
        return {"type": "string", "enum": options}, st.sampled_from(options)
    inner = kind if kind in _simple else draw(st.sampled_from(list(_simple)))
    if kind == "array":
        return {"type": "array", "items": {"type": inner}}, st.lists(_simple[inner], max_size=3)
    if kind == "object":
        schema = {"type": "object", "properties": {"inner": {"type": inner}}, "required": ["inner"]}
        return schema, st.fixed_dictionaries({"inner": _simple[inner]})
    if kind == "nullable":
        return {"type": [inner, "null"]}, st.one_of(st.none(), _simple[inner])
    return {"type": kind, "description": draw(_words)}, _simple[kind]


@st.composite
def _functions(draw: st.DrawFn, name: str) -> tuple[Tool, st.SearchStrategy[Made]]:
    """A tool, and calls of it."""
    parameters = draw(st.dictionaries(_names, _parameters(), max_size=3))
    required = tuple(key for key in parameters if draw(st.booleans()))
    properties = {key: schema for key, (schema, _) in parameters.items()}
    values = {key: allowed for key, (_, allowed) in parameters.items()}
    arguments = st.fixed_dictionaries(
        {key: values[key] for key in required},
        optional={key: allowed for key, allowed in values.items() if key not in required},
    )
    return Tool(name, draw(_words), properties, required), st.builds(Made, st.just(name), arguments, _results)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Up to three tools and three exchanges. The calls of one round are of different functions."""
    functions = [draw(_functions(name)) for name in draw(st.lists(_tool_names, min_size=1, max_size=3, unique=True))]
    exchanges = []
    for _ in range(draw(st.integers(1, 3))):
        rounds = []
        for _ in range(draw(st.integers(0, 2))):
            chosen = draw(st.permutations(functions))[: draw(st.integers(1, len(functions)))]
            rounds.append(tuple(draw(calls) for _, calls in chosen))
        exchanges.append(Exchange(draw(_sentences), tuple(rounds), draw(_sentences)))
    return Conversation(draw(st.sampled_from(["", "Be brief."])), tuple(t for t, _ in functions), tuple(exchanges))

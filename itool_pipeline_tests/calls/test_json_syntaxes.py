"""Hermes' and Llama's calls: round trips, what is certain of each beginning, where fragments end, and hostile text.

The oracles are Python's JSON parser, and texts that are put together from fragments that are known.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from itool_pipeline.calls import json_calls
from itool_pipeline.calls.hermes import CLOSE, HERMES_CALLS, OPEN
from itool_pipeline.calls.llama3_json import LLAMA3_JSON_CALLS, TAG
from itool_pipeline.calls.python_text import MAX_NESTING
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import BegunCall, Call, ToolCallSyntaxError
from itool_pipeline.core.fragments import FragmentRule

JSON_SYNTAXES = (HERMES_CALLS, LLAMA3_JSON_CALLS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(min_size=1, max_size=6)
CALLS = st.lists(st.builds(Call, NAMES, st.dictionaries(st.text(max_size=4), VALUES, max_size=3)), max_size=3).map(
    tuple
)
SYNTAX = st.sampled_from(JSON_SYNTAXES)
MARKS = st.sampled_from([OPEN, CLOSE, TAG, f"\n{CLOSE}", "; ", '"}', "\\"])


def one(syntax: CallSyntax, name: str, arguments: str) -> str:
    """A call written by hand; `arguments` is JSON."""
    if syntax is HERMES_CALLS:
        return f'{OPEN}\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n{CLOSE}'
    return f'{{"name": {json.dumps(name)}, "parameters": {arguments}}}'


def listed(begun: list[BegunCall]) -> list[tuple[str, dict[str, Any], bool]]:
    return [(call.name, call.arguments, call.closed) for call in begun]


def test_calls_as_the_models_write_them() -> None:
    calls = (Call("get_weather", {"city": "Zürich", "days": 2}), Call("stop", {}))
    assert HERMES_CALLS.render_calls(calls) == (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
    )
    assert LLAMA3_JSON_CALLS.render_calls(calls) == (
        '{"name": "get_weather", "parameters": {"city": "Zürich", "days": 2}}; {"name": "stop", "parameters": {}}'
    )


@given(SYNTAX, CALLS, st.booleans())
def test_a_render_reads_back(syntax: CallSyntax, calls: tuple[Call, ...], quirks: bool) -> None:
    text = syntax.render_calls(calls)
    assert syntax.read_response(text, quirks=quirks) == calls
    assert syntax.has_begun_call(text) == bool(calls)
    assert not syntax.is_plain_text(text)
    assert not (calls and syntax.has_words_beside_calls(text))
    assert syntax.part_with_calls(text) == text
    begun, error = syntax.finished_calls(text, quirks=quirks)
    assert listed(begun) == [(call.name, call.arguments, True) for call in calls]
    assert error is None or (not calls and error.ended)


@given(SYNTAX, MARKS, MARKS)
def test_what_marks_calls_can_stand_in_their_values(syntax: CallSyntax, mark: str, other: str) -> None:
    calls = (Call("f", {mark: [other, {"a": mark + other}]}), Call("g", {"a": other}))
    text = syntax.render_calls(calls)
    assert syntax.read_response(text) == calls == syntax.read_response(text, quirks=True)
    assert all(text.count(token) in (0, len(calls)) for token in syntax.tokens)


@pytest.mark.parametrize("value", [b"x", 1j, {1: 2}, [{None: 1}], {"a": {2}}, ...])
@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_what_json_does_not_have_is_refused(syntax: CallSyntax, value: Any) -> None:
    with pytest.raises(TypeError):
        syntax.render_calls([Call("f", {"a": value})])


def prefix_facts(syntax: CallSyntax, calls: tuple[Call, ...], end: int) -> list[tuple[str, list[str], bool]]:
    """Brute force: (name, arguments that have ended, whether it is closed) of the first `end` characters.

    Each call is rendered as it would be had it only its first n arguments, and the lengths of these texts tell where
    each part ends.
    """
    found = []
    for number, call in enumerate(calls):
        before = syntax.render_calls(calls[:number])
        start = len(before) + (
            len(syntax.render_calls(calls[: number + 1])) - len(before) - len(syntax.render_calls([call]))
        )
        empty = syntax.render_calls([Call(call.name, {})])
        named = start + empty.index('"name": ') + len('"name": ') + len(json.dumps(call.name, ensure_ascii=False))
        if end < named:
            break
        given = list(call.arguments)
        inside = start + empty.rindex("{}") + 1
        # `{"a": 1` and the character behind it.
        ends = [
            inside + len(json.dumps(dict(list(call.arguments.items())[: n + 1]), ensure_ascii=False)) - 1
            for n in range(len(given))
        ]
        closed = ends[-1] if ends else inside + 1
        found.append((call.name, [name for name, at in zip(given, ends, strict=True) if at <= end], closed <= end))
    return found


PLAIN_VALUES = st.integers() | st.sampled_from(
    ["x, y", "a}b", '"', "{", [1, {"k": "}"}], {"c": [2, 3]}, None, True, ""]
)
PLAIN_CALLS = st.lists(
    st.builds(Call, st.sampled_from(["f", "a.b", "get it"]), st.dictionaries(st.sampled_from("abc"), PLAIN_VALUES)),
    min_size=1,
    max_size=3,
).map(tuple)


@settings(max_examples=60)
@given(SYNTAX, PLAIN_CALLS)
def test_every_beginning_tells_what_has_ended_of_it(syntax: CallSyntax, calls: tuple[Call, ...]) -> None:
    text = syntax.render_calls(calls)
    for end in range(len(text) + 1):
        begun, error = syntax.finished_calls(text[:end])
        expected = prefix_facts(syntax, calls, end)
        assert [(call.name, list(call.arguments), call.closed) for call in begun] == expected
        assert all(
            found.arguments[k] == calls[i].arguments[k] for i, found in enumerate(begun) for k in found.arguments
        )
        assert error is None or error.ended


@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_arguments_may_come_before_the_name(syntax: CallSyntax) -> None:
    key = "arguments" if syntax is HERMES_CALLS else "parameters"
    text = f'{{"{key}": {{"a": 1, "b": [2]}}, "name": "f"}}'
    whole = f"{OPEN}\n{text}\n{CLOSE}" if syntax is HERMES_CALLS else text
    assert syntax.read_response(whole) == (Call("f", {"a": 1, "b": [2]}),)
    named = whole.index('"f"') + 3
    for end in range(len(whole) + 1):
        begun, error = syntax.finished_calls(whole[:end])
        assert listed(begun) == ([("f", {"a": 1, "b": [2]}, True)] if end >= named else [])
        assert error is None or error.ended
    assert FragmentRule(syntax=syntax).split(whole)[-2:] == [', "name": "f"}', whole[whole.index('"f"}') + 4 :]] or (
        FragmentRule(syntax=syntax).split(whole)[-1] == ', "name": "f"}'
    )


BROKEN = [
    '{"name": "f", "KEY": {"a": 1 2}}',
    '{"name": "f", "KEY": {"a": tru}}',
    '{"name": "f", "KEY": {"a": True}}',
    '{"name": "f", "KEY": {"a": 01}}',
    '{"name": "f", "KEY": {"a": 1,}}',
    '{"name": "f", "KEY": {a: 1}}',
    '{"name": "f", "KEY": {"a": [1}, 2]}}',
    '{"name": "f", "KEY": {"a": "\\q"}}',
    '{"name": "f", "KEY": {"a": "line\nbreak"}}',
    '{"name": "f" "KEY": {}}',
    "{'name': 'f', 'KEY': {}}",
    '{"KEY": {"a": 1}}',
    '{"name": "f"}',
    '{"name": "f", "KEY": [1]}',
    '{"name": ["f"], "KEY": {}}',
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_what_is_broken_is_broken_for_good(syntax: CallSyntax, broken: str) -> None:
    text = broken.replace("KEY", "arguments" if syntax is HERMES_CALLS else "parameters")
    whole = f"{OPEN}\n{text}\n{CLOSE}" if syntax is HERMES_CALLS else text
    with pytest.raises(ToolCallSyntaxError):
        syntax.read_response(whole, quirks=True)
    _, error = syntax.finished_calls(whole)
    assert error is not None
    assert not error.ended
    assert syntax.has_begun_call(whole)


def begun_call(syntax: CallSyntax, text: str) -> str:
    """A call that begins so, with the syntax's own key and mark."""
    begun = text.replace("KEY", "arguments" if syntax is HERMES_CALLS else "parameters")
    return f"{OPEN}\n{begun}" if syntax is HERMES_CALLS else begun


@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_of_a_key_that_stands_twice_the_first_is_certain_and_the_second_an_error(syntax: CallSyntax) -> None:
    for text, arguments in (
        ('{"name": "f", "KEY": {"a": 1, "a": 2}}', {"a": 1}),
        ('{"name": "f", "name": "g", "KEY": {}}', {}),
    ):
        begun, error = syntax.finished_calls(begun_call(syntax, text))
        assert listed(begun) == [("f", arguments, False)]
        assert error is not None
        assert not error.ended


@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_what_is_nested_too_deep_is_broken_before_it_ends(syntax: CallSyntax) -> None:
    before = begun_call(syntax, '{"name": "f", "KEY": {"a": ')
    for levels, ended in ((MAX_NESTING, True), (MAX_NESTING + 1, False)):
        _, error = syntax.finished_calls(before + "[" * levels)
        assert error is not None
        assert error.ended == ended


def test_hermes_reads_calls_among_words_as_its_official_decoder_does() -> None:
    text = f"Let me see.\n{one(HERMES_CALLS, 'f', '{}')}\nDone."
    assert HERMES_CALLS.read_response(text) == (Call("f", {}),)
    assert HERMES_CALLS.has_words_beside_calls(text)
    assert HERMES_CALLS.has_words_beside_calls("Let me see.\n<tool_call>")
    assert not HERMES_CALLS.has_words_beside_calls(f" {one(HERMES_CALLS, 'f', '{}')}\n<tool_c")
    assert HERMES_CALLS.read_response(f"{OPEN}\nno JSON\n{CLOSE}\n{one(HERMES_CALLS, 'f', '{}')}") == (Call("f", {}),)
    assert HERMES_CALLS.read_response("Nothing fits.") == ()
    with pytest.raises(ToolCallSyntaxError):
        HERMES_CALLS.read_response(f"{OPEN}\nno JSON\n{CLOSE}", quirks=True)
    tight = f'{OPEN}{{"name": "f", "arguments": {{}}}}{CLOSE}'
    assert HERMES_CALLS.read_response(tight, quirks=True) == (Call("f", {}),)
    assert HERMES_CALLS.read_response(tight) == ()


def test_llama_passes_over_its_tag_and_reads_a_list() -> None:
    call = one(LLAMA3_JSON_CALLS, "f", '{"a": 1}')
    for text in (f"{TAG}{call}", f" {TAG} {call}\n", f"[{call}]", f"[\n {call}\n]"):
        assert LLAMA3_JSON_CALLS.read_response(text) == (Call("f", {"a": 1}),)
        assert LLAMA3_JSON_CALLS.has_begun_call(text)
        begun, error = LLAMA3_JSON_CALLS.finished_calls(text)
        assert listed(begun) == [("f", {"a": 1}, True)]
        assert error is None
    for text in (f"{call}; {TAG}{call}", f"[{call}, {call}]"):
        assert len(LLAMA3_JSON_CALLS.read_response(text)) == len(LLAMA3_JSON_CALLS.finished_calls(text)[0]) == 2
    for text in (f"{call} and so on", f"Sure: {call}", f"{call};", f"{call}, {call}", f"[{call}; {call}]"):
        with pytest.raises(ToolCallSyntaxError):
            LLAMA3_JSON_CALLS.read_response(text)


@pytest.mark.parametrize(
    ("syntax", "begun", "words"),
    [
        (HERMES_CALLS, ["<", "<tool", OPEN, f"{OPEN}\n{{", f"x {OPEN}"], ["No.", "a < b", "[1] and", '{"name": "f"}']),
        (
            LLAMA3_JSON_CALLS,
            ["{", '{"', "{'", " {", "<|pyth", TAG, f"{TAG}brave_search.call(", "[", "[{", '[{"name'],
            ["No.", "a { b", "<tool_call>"],
        ),
    ],
)
def test_a_call_is_told_from_words(syntax: CallSyntax, begun: list[str], words: list[str]) -> None:
    for text in begun:
        assert syntax.has_begun_call(text), text
        assert not syntax.is_plain_text(text), text
    for text in words:
        assert not syntax.has_begun_call(text), text
        assert syntax.is_plain_text(text), text
    for text in ("", " \n"):
        assert not syntax.has_begun_call(text)
        assert not syntax.is_plain_text(text)


@given(SYNTAX, PLAIN_CALLS, st.sampled_from([",.)", ",}", ",", ")", "."]))
def test_fragments_of_calls_are_their_arguments(syntax: CallSyntax, calls: tuple[Call, ...], terminators: str) -> None:
    """The pieces are put together one by one, and it is known of each whether a fragment ends behind it."""
    comma, closing = "," in terminators, ")" in terminators or "}" in terminators
    opened, key, closed, between = (
        (f"{OPEN}\n", "arguments", f"\n{CLOSE}", "\n") if syntax is HERMES_CALLS else ("", "parameters", "", "; ")
    )
    pieces: list[tuple[str, bool]] = []
    for number, call in enumerate(calls):
        pieces.append((f'{between if number else ""}{opened}{{"name": "{call.name}", "{key}": {{', False))
        items = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in call.arguments.items()]
        for at, item in enumerate(items):
            pieces.append(
                (f"{' ' if at else ''}{item}{',' if at + 1 < len(items) else ''}", comma and at + 1 < len(items))
            )
        pieces += [("}", closing), ("}" + closed, False)]
    text = "".join(piece for piece, _ in pieces)
    assert text == syntax.render_calls(calls)
    ends = [end for end, (_, cut) in zip(accumulate(len(p) for p, _ in pieces), pieces, strict=True) if cut]
    assert list(FragmentRule(terminators, syntax).ends(text)) == ends


def test_llama_ends_no_fragment_behind_what_has_broken() -> None:
    certain = '{"name": "f", "parameters": {"a": 1,'
    rule = FragmentRule(syntax=LLAMA3_JSON_CALLS)
    assert list(rule.ends(f'{certain} "b" 2}}}}, and so. (It is.)')) == [len(certain)]


TEXT = st.text('{}[]":,.) \n\\;ab1<tool_call>/|', max_size=50)
CALL_LIKE = st.tuples(
    st.sampled_from(["", "Well. ", f"{OPEN}\n", f"{TAG}", "["]),
    st.sampled_from(['{"name": "f", "arguments": {', '{"name": "f", "parameters": {"a": "', "", '{"parameters": {}']),
    TEXT,
    st.sampled_from(["", f"\n{CLOSE}", f"{CLOSE} so, it is. ", "}}; "]),
    TEXT,
).map("".join)


@settings(max_examples=500)
@given(SYNTAX, TEXT | CALL_LIKE, st.sampled_from([",.)", ",}", "<_,", ";."]))
def test_an_end_is_never_taken_back_nor_added_later(syntax: CallSyntax, text: str, terminators: str) -> None:
    rule = FragmentRule(terminators, syntax)
    whole = list(rule.ends(text))
    assert whole == sorted(set(whole))
    assert all(text[end - 1] in terminators + "}" for end in whole)
    for cut in range(len(text) + 1):
        assert list(rule.ends(text[:cut])) == [end for end in whole if end <= cut]
    assert "".join(rule.split(text)) == text


@given(SYNTAX, st.text('abc,.) \n"', max_size=40))
def test_in_words_every_terminator_ends_a_fragment(syntax: CallSyntax, text: str) -> None:
    assert list(FragmentRule(",.)", syntax).ends(text)) == [i + 1 for i, c in enumerate(text) if c in ",.)"]


@settings(max_examples=300)
@given(SYNTAX, TEXT | CALL_LIKE | st.text(max_size=30), st.booleans())
@example(HERMES_CALLS, f"{OPEN}\n{'[' * 5000}\n{CLOSE}", False)
@example(LLAMA3_JSON_CALLS, '{"name": "f", "parameters": {"a": ' + "[" * 5000, True)
@example(LLAMA3_JSON_CALLS, '{"name": "f", "parameters": {"a": ' + "9" * 5000 + "}}", True)
def test_any_text_reads_or_is_a_syntax_error(syntax: CallSyntax, text: str, quirks: bool) -> None:
    try:
        calls = syntax.read_response(text, quirks=quirks)
    except ToolCallSyntaxError:
        calls = None
    begun, error = syntax.finished_calls(text, quirks=quirks)
    syntax.has_words_beside_calls(text)
    if error is None and calls is not None:
        assert [(call.name, call.arguments) for call in begun] == [(call.name, call.arguments) for call in calls]


@settings(max_examples=200)
@given(SYNTAX, TEXT | CALL_LIKE)
def test_a_begun_call_stays_begun(syntax: CallSyntax, text: str) -> None:
    """What stands for certain of a beginning stands in every longer one."""
    before: list[tuple[str, dict[str, Any], bool]] = []
    for cut in range(len(text) + 1):
        now = listed(syntax.finished_calls(text[:cut])[0])
        assert len(now) >= len(before)
        for (name, arguments, closed), (later, more, then) in zip(before, now, strict=False):
            assert name == later
            assert arguments.items() <= more.items() if _hashable(more) else set(arguments) <= set(more)
            assert then or not closed
        before = now


def _hashable(arguments: dict[str, Any]) -> bool:
    return all(isinstance(value, str | int | float | bool | None) for value in arguments.values())


PIECES = [OPEN, CLOSE, f"{OPEN}\n", TAG, "{", "[", '"', '{"name": "f", ', '"a": 1, ', "}", "; ", "\\", "x", ",", "\n"]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    "before", ["", f"{OPEN}\n", '{"name": "f", "parameters": {"a": ', f'{OPEN}\n{{"name": "f", "arguments": {{"a": "']
)
@pytest.mark.parametrize("syntax", JSON_SYNTAXES, ids=lambda s: s.name)
def test_hostile_text_takes_linear_time(
    syntax: CallSyntax, before: str, piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps are counted: those of the scanner, and the characters that are handed to Python's parser."""
    steps = 0
    scan, value_of = json_calls._CallScanner._next, json_calls.value_of

    def counted_next(self: Any) -> str:
        nonlocal steps
        steps += 1
        return scan(self)

    def counted_value(text: str, position: int = 0) -> Any:
        nonlocal steps
        steps += len(text)
        return value_of(text, position)

    monkeypatch.setattr(json_calls._CallScanner, "_next", counted_next)
    monkeypatch.setattr(json_calls, "value_of", counted_value)
    text = before + piece * (20_000 // len(piece))
    list(syntax.fragment_ends(text, ",.)"))
    syntax.finished_calls(text)
    assert steps <= 10 * len(text)


def test_the_forms_that_are_told_read_as_calls() -> None:
    """What our instructions show is what the syntax reads, once its dots are filled in."""
    for syntax in JSON_SYNTAXES:
        shown = syntax.form[syntax.form.index("<" if syntax is HERMES_CALLS else "{") :].removesuffix("; {...}")
        filled = re.sub(r'"parameter": value, \.\.\.', '"a": 1', shown).replace('"..."', '"f"')
        assert syntax.read_response(filled) == (Call("f", {"a": 1}),)

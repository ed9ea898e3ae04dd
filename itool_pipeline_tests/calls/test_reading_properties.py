"""Properties of parsing and rendering tool calls on any text: Python's own parser, linear time, no crash."""

from __future__ import annotations

import ast
import contextlib
import keyword
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from itool_pipeline.calls.reading import CallReader, finished_calls, looks_like_call, parse_calls, parse_response
from itool_pipeline.calls.rendering import render_calls
from itool_pipeline.calls.types import Call, ToolCallSyntaxError


@pytest.mark.parametrize("opening", ["[", "(", "{1:", "g(", "-", "not ", "1+(", "x[", "1 if 1 else ", "1**", "g(a="])
def test_deep_nesting_is_a_syntax_error(opening: str) -> None:
    for count in (61, 5000):
        with pytest.raises(ToolCallSyntaxError, match=r"levels deep"):
            parse_response(f"[f(a={opening * count}")
    assert len(parse_response(f"[f(a={'[' * 50}{']' * 50})]")) == 1


def test_long_chains_are_a_syntax_error_too() -> None:
    for chain in ("1" + "+1" * 5000, "a" + ".b" * 5000, "a" + "()" * 5000, "a" + "[0]" * 5000):
        with pytest.raises(ToolCallSyntaxError, match=r"levels deep"):
            parse_response(f"[f(a={chain})]")


PIECES = [
    *("f(a=1), ", "[", "]", "(", "f(", "f(a=", "a, ", "a b ", '"', "'", '"""x', "\\", "#", "-", "1+", "9", "{", "a="),
    *("\n", "a.b", "**", "f(a=[1],", "not ", "if "),
]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("before", ["[", "[f(", '[f(a="', "[f(a=[", "[f(a=1)", ""])
def test_scanning_takes_linear_time(before: str, piece: str) -> None:
    """Each reading is possessive, so its cost is what it reads: at most a fixed number of steps for a character."""
    for quirks in (False, True):
        text = before + piece * (4000 // len(piece))
        reader = CallReader(text, ["f", "a b"], quirks=quirks, free=quirks)
        with contextlib.suppress(ToolCallSyntaxError):
            reader.read()
        assert reader.scanner.steps <= 40 * len(text)


ATOMS = (
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.binary(max_size=4),
)
VALUES = st.recursive(
    st.one_of(*ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    ),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True).filter(lambda n: not keyword.iskeyword(n))
CALLS = st.lists(
    st.builds(Call, NAMES | st.just("a.b"), st.dictionaries(NAMES, VALUES, max_size=3)), max_size=3
).map(tuple)  # fmt: skip


@settings(deadline=None)
@given(CALLS)
def test_a_render_parses_to_the_same_calls(calls: tuple[Call, ...]) -> None:
    text = render_calls(calls)
    assert parse_calls(text) == parse_response(text) == calls
    assert looks_like_call(text) == bool(calls)


@settings(deadline=None)
@given(VALUES.filter(lambda v: "inf" not in repr(v)))
def test_literals_mean_what_python_says(value: Any) -> None:
    assert parse_response(f"[f(a={value!r})]")[0].arguments["a"] == ast.literal_eval(repr(value))


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "(1 + 2) * 3",
            "1 + (2 * 3)",
            "2 ** -1",
            "2 ** 3 ** 4",
            "(2 ** 3) ** 4",
            "-(2 ** 3)",
            "(-2) ** 3",
            "1 - (2 - 3)",
        ),
        *("not (x and y)", "x and (y or z)", "x or y and z", "1 if x else (2 if y else 3)", "(x if y else z) + 1"),
        *("x[1, 2]", "x[1:2, ::3]", "(a, b)[0]", "(a + b).c", "(1).real", "g(h)(i, *j, k=[l], **m)", "x is not None"),
        *("(1,)", "()", "{1: 'a', 'b': [2]}", "x not in y", "1e400", "'it\\'s'", "~x", "...", "a.b.c"),
    ],
)
def test_expressions_kept_as_text_are_laid_out_as_python_does(expression: str) -> None:
    expected = ast.unparse(ast.parse(f"g({expression})", mode="eval"))
    assert parse_response(f"[f(a=g({expression}))]")[0].arguments["a"] == expected


STRINGS = st.text(alphabet="aé\\x41uN{}'\"\n07\r bBrRuU", max_size=14)


@settings(deadline=None)
@given(st.sampled_from(["", "r", "b", "u", "rb", "Br"]), st.sampled_from(['"', "'", '"""', "'''"]), STRINGS)
def test_string_literals_mean_what_python_says(prefix: str, quote: str, body: str) -> None:
    text = f"{prefix}{quote}{body}{quote}"
    try:
        expected = ast.literal_eval(f"({text})")
    except (SyntaxError, ValueError):
        expected = None
    try:
        found = parse_response(f"[f(a=({text}))]")[0].arguments["a"]
    except ToolCallSyntaxError:
        found = None
    if isinstance(expected, str | bytes | None):
        assert found == expected


ALPHABET = "fgab.,()[]{}=:'\"\\ \n#-+*1e_é`rbtN\x00\ud800\u0301"


def _survives(text: str) -> None:
    for parse in (parse_calls, parse_response, lambda t: parse_response(t, ["a b"], quirks=True)):
        with contextlib.suppress(ToolCallSyntaxError):
            assert all(isinstance(call, Call) for call in parse(text))
    finished_calls(text)
    looks_like_call(text)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet=ALPHABET, max_size=60))
@example("[f(a=" + "(" * 10_000)
@example("\\" * 10_000)
def test_any_text_parses_or_is_a_syntax_error(text: str) -> None:
    _survives(text)


@pytest.mark.fuzz
@settings(max_examples=100_000, deadline=None)
@given(st.text(max_size=40) | st.text(alphabet=ALPHABET, max_size=60))
def test_any_of_many_texts_parses_or_is_a_syntax_error(text: str) -> None:
    _survives(text)

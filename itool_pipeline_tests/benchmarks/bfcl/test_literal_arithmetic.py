"""The same values as `eval` for arithmetic between literals; nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.benchmarks.bfcl.literal_arithmetic import evaluate_literals
from itool_pipeline.calls.arithmetic import CodeRefused

VALUES = {
    "2 * 3 + 4": 10,
    "-7 // 2": -4,
    "2 ** -1": 0.5,
    "2 ** 10 % 1000": 24,
    "~5 & 12 | 1 ^ 2": 11,
    "1 << 4 >> 1": 8,
    "'a' + 'b' * 2": "abb",
    "[1] + [2, 3]": [1, 2, 3],
    "(1, 2) * 2": (1, 2, 1, 2),
    "3 - -1.5": 4.5,
    "1 + 2j": 1 + 2j,
    "not 0": True,
}


@pytest.mark.parametrize(("text", "value"), VALUES.items())
def test_values_by_hand(text: str, value: object) -> None:
    assert evaluate_literals(text) == value
    assert type(evaluate_literals(text)) is type(value)


NUMBERS = st.recursive(
    st.integers(0, 20).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%", "/"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda x: f"(-{x})"),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(NUMBERS)
def test_as_python_itself(text: str) -> None:
    # Python's own constant folding is the oracle: compiled, never run
    try:
        constants = compile(text, "", "eval").co_consts
        expected = evaluate_literals(text)
    except (ZeroDivisionError, OverflowError):
        return
    assert constants == (expected,)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') + 1",
        "open('x', 'w') + ''",
        "len('abc') + 1",
        "[x for x in (1,)] + [2]",
        "(lambda: 1)() + 1",
        "(y := 3) + 1",
        "f'{1}' + 'a'",
        "9 ** 9 ** 9",
        "1 << 99999999",
        "'a' * 999999999",
        "999999999 * [0]",
        "'%999999999d' % 1",
        "(1 if True else 2) + 1",
    ],
)
def test_code_and_what_is_too_large_are_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CodeRefused):
        evaluate_literals(text)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_those_of_eval() -> None:
    with pytest.raises(ZeroDivisionError):
        evaluate_literals("1 / 0")
    with pytest.raises(TypeError):
        evaluate_literals("1 + 'a'")
    with pytest.raises(NameError, match="'x' is not defined"):
        evaluate_literals("x + 1")
    with pytest.raises(CodeRefused):
        evaluate_literals("x + 1", known_names={"x"})

"""Values against what is accepted for them, case by case as BFCL's rules say."""

from __future__ import annotations

from typing import Any

import pytest

from itool_pipeline.calls.comparing import is_accepted, is_equal, standardized_text

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
FLOAT = {"type": "float"}
DICT = {"type": "dict"}


def _list_of(member: str, outer: str = "array") -> dict[str, Any]:
    return {"type": outer, "items": {"type": member}}


@pytest.mark.parametrize(
    ("value", "accepted", "schema", "expected"),
    [
        ("New York, NY", ["new york ny"], STRING, True),
        ("it's", ['it"s'], STRING, True),
        ("a", ["b"], STRING, False),
        ("", ["x", ""], STRING, True),
        (1, ["1"], STRING, False),
        ("x", ["x"], {"type": "any"}, True),
        (5, [5], INTEGER, True),
        (5.0, [5], INTEGER, False),
        (True, [1], INTEGER, False),
        (5, [5.0], FLOAT, True),
        (10**400, [5.0], FLOAT, False),
        (True, [True], {"type": "boolean"}, True),
        # a variable: not the schema's type, but that of the accepted values, and then compared without leniency
        ("Input", ["input"], INTEGER, False),
        ("input", ["input"], INTEGER, True),
        (None, ["", None], STRING, True),
        ([1, 2], [[1, 2], [3]], _list_of("integer"), True),
        ([1, 2.0], [[1, 2]], _list_of("integer"), False),
        (["A b"], [["a-b"]], _list_of("string"), True),
        ([["A b"]], [[["a-b"]]], _list_of("array"), False),
        ((1, 2), [[1, 2]], _list_of("integer", "tuple"), True),
        ((1, 2), [[1, 2]], _list_of("integer"), False),
        ([], ["", [1]], _list_of("integer"), True),
        ([1], ["", None], _list_of("integer"), False),
        ([1], [[1]], {"type": "array"}, False),
        ({"a": "X"}, [{"a": ["x", "y"], "b": ["", 1]}], DICT, True),
        ({"a": "x"}, [{"a": ["x"], "b": [1]}], DICT, False),
        ({"a": "x", "c": 1}, [{"a": ["x"]}], DICT, False),
        ({}, ["", {}], DICT, True),
        ({}, [""], DICT, False),
        ([{"a": 1}, {"a": 2}], [[{"a": [1]}, {"a": [2]}]], _list_of("dict"), True),
        ([{"a": 2}, {"a": 1}], [[{"a": [1]}, {"a": [2]}]], _list_of("dict"), False),
        (["x"], [["x"]], _list_of("dict"), False),
        (1, [1], {"type": "number"}, False),
        (1, [], INTEGER, False),
    ],
)
def test_accepted_as_the_benchmark_accepts(
    value: Any, accepted: list[Any], schema: dict[str, Any], expected: bool
) -> None:
    assert is_accepted(value, accepted, schema) is expected


def test_standardized_text() -> None:
    assert standardized_text("It's A-b_c/d.e,f*g^h i!") == 'it"sabcdefghi!'


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        (True, True, True),
        (5, 5.0, True),
        (2**53 + 1, float(2**53), False),
        ("1", 1, False),
        ("-5", -5, False),
        ("true", True, False),
        ("", None, False),
        ((1, "A"), [1.0, "A"], True),
        # what the benchmark's leniency would call the same
        ("April 1, 2024", "April 1 2024", False),
        ("Rome", "rome", False),
        ("10.0.0.1", "10001", False),
        ("2*3-1", "231", False),
        ("-5", "5", False),
        ("1.5", "15", False),
        ("/srv/data-1.csv", "srvdata1csv", False),
        ("a_b", "ab", False),
        ("it's", 'it"s', False),
        (", ", ",", False),
        ("x\n", "x", False),
        (["a.b"], ["ab"], False),
        ({"path": "a/b"}, {"path": "ab"}, False),
        ({"a.b": 1}, {"ab": 1}, False),
        ([1, 2], [2, 1], False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_equal_by_value(value: Any, gold: Any, expected: bool) -> None:
    assert is_equal(value, gold) is is_equal(gold, value) is expected

"""YAML of people, odd and hostile: what is read is plain and small, and all else is refused in words."""

from __future__ import annotations

import datetime
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from itool_pipeline.files.config_yaml import MAX_DEPTH, MAX_VALUES, UnreadableYaml, read_yaml, write_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(string.printable, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=5), inner),
    max_leaves=12,
)


@example("1e-6")
@given(PLAIN)
def test_what_is_written_is_read_again(content: Any) -> None:
    assert read_yaml(write_yaml(content)) == content


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("+2E3", 2000.0),
        ("1.5e-3", 1.5e-3),
        ("1e", "1e"),
        ("{a: &x [1, 2], b: *x}", {"a": [1, 2], "b": [1, 2]}),
        ("2026-01-31", datetime.date(2026, 1, 31)),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{a: 1, a: 2}", "the key 'a' stands twice"),
        ("? [a, b]\n: 1", "unhashable key"),
        ("? {a: 1}\n: 1", "unhashable key"),
        ("2026-13-41", "month must be in 1..12"),
        ("9" * 5000, "digits"),
        ("a: \0", "special characters are not allowed"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("&a [*a]", "inside of what it stands for"),
        ("a: &a {b: {c: *a}}", "inside of what it stands for"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
        ("[" * 1000, f"nested more than {MAX_DEPTH} deep"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(UnreadableYaml, match=reason):
        read_yaml(text)


def test_what_is_just_deep_enough_is_read() -> None:
    value = read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


def test_aliases_that_unfold_without_end_are_refused() -> None:
    """Thirty lines that stand for a billion values."""
    bomb = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 2) if i else '1, 1'}]" for i in range(30))
    with pytest.raises(UnreadableYaml, match=f"more than {MAX_VALUES:,} values, unfolded"):
        read_yaml(bomb)

"""Cuts against texts that are put together from known fragments, and against the text itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itool_pipeline.calls.reading import WRAPPING, looks_like_call
from itool_pipeline.core.fragments import FragmentRule

RULE = FragmentRule()
TERMINATORS = st.sampled_from([",.)", ",", ",.()", ")]", ",.)]\n", ",. )"])
TEXT = st.one_of(st.text(max_size=40), st.text("[](){}'\"\\,.=ab1 \né", max_size=60))
CALL_LIKE = st.builds(lambda lead, text: lead + "[" + text, st.sampled_from(["", " ", "\n"]), TEXT)
ANY = st.one_of(TEXT, CALL_LIKE)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", []),
        ("[]", ["[]"]),
        ("[f()]", ["[f()", "]"]),
        ("[f(a=1, b=2)]", ["[f(a=1,", " b=2)", "]"]),
        ("[f(a=1,)]", ["[f(a=1,", ")", "]"]),
        ("[f(a=1), g(b=2)]", ["[f(a=1)", ",", " g(b=2)", "]"]),
        # a quoted string, with each kind of quote in the other and an escaped one
        ('[f(a="x, y. (z)", b=1)]', ['[f(a="x, y. (z)",', " b=1)", "]"]),
        ("[f(a='say \"a, b\"', b=1)]", ["[f(a='say \"a, b\"',", " b=1)", "]"]),
        (r"[f(a='it\'s, so', b=1)]", [r"[f(a='it\'s, so',", " b=1)", "]"]),
        ("[f(a='\\\\', b=1)]", ["[f(a='\\\\',", " b=1)", "]"]),
        # nested values
        ("[f(a=[1, 2], b={'c': (3, 4)})]", ["[f(a=[1, 2],", " b={'c': (3, 4)})", "]"]),
        ("[f(a=g(1, 2), b=3)]", ["[f(a=g(1, 2),", " b=3)", "]"]),
        # periods of numbers and names
        ("[math.add(a=1.5, b=-.5)]", ["[math.add(a=1.5,", " b=-.5)", "]"]),
        # text
        ("No. Give me a, b.", ["No.", " Give me a,", " b."]),
        ("3.5 (about)", ["3.", "5 (about)"]),
        ("...", [".", ".", "."]),
        # unfinished
        ("[f(a='x, ", ["[f(a='x, "]),
        ("[f(a=[1, ", ["[f(a=[1, "]),
        ("[f(a=1, b", ["[f(a=1,", " b"]),
        ("\n [f(a=1.0)", ["\n [f(a=1.0)"]),
    ],
)
def test_worked_out_by_hand(text: str, fragments: list[str]) -> None:
    assert RULE.split(text) == fragments


def test_terminators_are_configurable() -> None:
    text = "[f(a=g(1, 2), b=[3])]"
    assert FragmentRule(",").split(text) == ["[f(a=g(1, 2),", " b=[3])]"]
    assert FragmentRule(",.()").split(text) == ["[f(", "a=g(1, 2),", " b=[3])", "]"]
    assert FragmentRule("]").split(text) == ["[f(a=g(1, 2), b=[3])]"]
    assert FragmentRule("=").split("[f(a={'b': g(c=1)})]") == ["[f(a=", "{'b': g(c=1)})]"]
    assert FragmentRule("!?").split("Why? No. Yes!") == ["Why?", " No. Yes!"]


LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=6,
)
NAME = st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3})?", fullmatch=True)
CALLS = st.lists(st.tuples(NAME, st.lists(st.tuples(NAME, VALUE), max_size=3)), min_size=1, max_size=3)


@given(CALLS, st.sampled_from([repr, json.dumps]))
@settings(max_examples=100)
def test_one_fragment_for_each_argument_whatever_its_value(
    calls: Sequence[tuple[str, Sequence[tuple[str, Any]]]], write: Any
) -> None:
    expected = []
    for i, (name, arguments) in enumerate(calls):
        head = "[" if i == 0 else " "
        shown = [f"{key}={write(value)}" for key, value in arguments]
        expected += [*([","] if i else []), head + name + "(" + (shown[0] + "," if len(shown) > 1 else "")]
        if len(shown) <= 1:
            expected[-1] += "".join(shown) + ")"
        else:
            expected += [*(" " + argument + "," for argument in shown[1:-1]), " " + shown[-1] + ")"]
    expected.append("]")
    assert RULE.split("".join(expected)) == expected


@given(ANY, TERMINATORS)
def test_splitting_is_lossless_and_cuts_only_behind_terminators(text: str, terminators: str) -> None:
    fragments = FragmentRule(terminators).split(text)
    assert "".join(fragments) == text
    assert all(fragments)
    assert all(fragment[-1] in terminators for fragment in fragments[:-1])


@given(TEXT.filter(lambda text: not text.lstrip(WRAPPING).startswith("[") and not looks_like_call(text)), TERMINATORS)
def test_every_terminator_cuts_plain_text(text: str, terminators: str) -> None:
    cuts = [i + 1 for i, char in enumerate(text) if char in terminators]
    assert list(FragmentRule(terminators).ends(text)) == cuts


@given(ANY, TERMINATORS)
def test_ends_depend_only_on_what_precedes_them(text: str, terminators: str) -> None:
    rule = FragmentRule(terminators)
    whole = list(rule.ends(text))
    for length in range(len(text) + 1):
        assert list(rule.ends(text[:length])) == [end for end in whole if end <= length]


@given(ANY, st.data())
def test_ends_within_looks_behind_start_up_to_the_end(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    assert RULE.ends_within(text, start) == bool({*RULE.ends(text)} & {*range(start + 1, len(text) + 1)})


def test_ends_within_does_not_count_the_end_before() -> None:
    assert RULE.ends_within("a,", 1)
    assert not RULE.ends_within("a,", 2)
    assert not RULE.ends_within("a,b", 2)


def test_a_long_text_is_split_in_one_pass() -> None:
    argument = "a=" + "[" * 50 + "1, 2" + "]" * 50 + ","
    fragments = RULE.split("[f(" + argument * 2000)
    assert len(fragments) == 2000
    assert sum(map(len, fragments)) == 3 + 2000 * len(argument)


def test_an_apostrophe_in_a_name_opens_no_string() -> None:
    assert FragmentRule(",)").split("[Get User's Data(a=1, b=2)]") == ["[Get User's Data(a=1,", " b=2)", "]"]


def test_a_call_in_backticks_is_cut_as_a_call() -> None:
    assert FragmentRule(",.)").split('```\n[f(a="x, y", b=1.5)]') == ['```\n[f(a="x, y",', " b=1.5)", "]"]

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itool_pipeline.config import MctsConfig
from itool_pipeline.store.fingerprint import fingerprint_of

no_clock = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3), max_leaves=8
)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return tuple(reordered(item) for item in value) if isinstance(value, list) else value


def typed(value: Any) -> Any:
    """A value in which two values are the same exactly when they have the same kinds and contents."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else f"{type(value).__name__} {value!r}"


def test_golden_value() -> None:
    # printf '{"a": 1, "b": [0.1, null, "x"]}' | sha256sum
    assert fingerprint_of(b=[0.1, None, "x"], a=1) == "7c5615f512f0e292"


@no_clock
@given(st.dictionaries(st.sampled_from(["alpha", "beta", "gamma"]), values))
def test_order_of_keys_and_tuples_do_not_matter(parts: dict[str, Any]) -> None:
    assert fingerprint_of(**reordered(parts)) == fingerprint_of(**parts)


@no_clock
@given(values, values)
def test_different_values_differ(one: Any, other: Any) -> None:
    assert (fingerprint_of(part=one) == fingerprint_of(part=other)) == (typed(one) == typed(other))


@no_clock
@given(values, st.integers(0, 2))
def test_depth_and_name_matter(value: Any, key: int) -> None:
    assert fingerprint_of(part=value) != fingerprint_of(part=[value])
    assert fingerprint_of(part=value) != fingerprint_of(other=value)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (1, "1"), (None, "null"), (0.0, -0.0), ([], {})])
def test_kinds_differ(one: Any, other: Any) -> None:
    assert fingerprint_of(part=one) != fingerprint_of(part=other)


def test_every_field_of_a_config_counts() -> None:
    base = MctsConfig()
    names = {fingerprint_of(config=base)}
    for name, value in {"depth": 4, "temperature": 1.25, "terminators": ",", "prior": "product"}.items():
        names.add(fingerprint_of(config=base.model_copy(update={name: value})))
    assert len(names) == 5
    assert fingerprint_of(config=copy.deepcopy(base)) == fingerprint_of(config=base)


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), b"x", object(), {1: 2}, [1, {"deep": 1j}]])
def test_other_types_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"fingerprint: part"):
        fingerprint_of(part=value)

"""What an example expects: said, or read from its gold calls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.types import Example, Expectation, Message

CALLED = Example(
    "id", "jsonl", "single_call", (Message("user", "?"),), (), "[f(a=1)]", (GoldCall("f", {"a": (1,)}),), "id"
)
TEXT = replace(CALLED, response="No.", gold=())


def test_gold_calls_are_expected_and_without_any_no_call() -> None:
    assert (CALLED.expects, TEXT.expects) == (Expectation.CALLS, Expectation.NO_CALL)
    assert replace(TEXT, expects=Expectation.CALLS) == TEXT


@pytest.mark.parametrize("expects", [Expectation.ANY_CALL, Expectation.NO_CALL])
def test_gold_calls_leave_no_choice(expects: Expectation) -> None:
    with pytest.raises(ValueError, match=f"id: has gold calls, but expects {expects}"):
        replace(CALLED, expects=expects)

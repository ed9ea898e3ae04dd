"""Which judge decides: each source's own, and elsewhere the one for gold values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.calls.types import GoldCall
from itool_pipeline.core.judge import Agreement, Verdict
from itool_pipeline.core.types import Example, Message
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.rule_judge import RuleJudge, SourceJudge
from itool_pipeline_tests.judges.by_source import JUDGE


@dataclass(frozen=True)
class Fixed:
    """Says always the same."""

    name: str
    value: float
    syntax: CallSyntax = PYTHON_CALLS

    def verdict(self, example: Example, response: str) -> Verdict:
        return Verdict(False, self.name)

    def agreement(self, example: Example, partial: str) -> Agreement:
        return Agreement(self.value, flawed=False)


def example(source: str) -> Example:
    """`unit` has a default, which is the gold value; the tool requires it all the same."""
    schema = {"n": {"type": "float"}, "unit": {"type": "string", "default": "km"}}
    tool = {"name": "f", "parameters": {"properties": schema, "required": ["n", "unit"]}}
    gold = (GoldCall("f", {"n": (1,), "unit": ("km",)}),)
    return Example("id", source, "simple_python", (Message("user", "?"),), (tool,), "", gold, "id")


@pytest.mark.parametrize(("source", "named"), [("a", "of a"), ("b", "of b"), ("c", "of all others")])
def test_each_source_has_its_judge(source: str, named: str) -> None:
    judge = SourceJudge({"a": Fixed("of a", 0.1), "b": Fixed("of b", 0.2)}, Fixed("of all others", 0.3))
    assert judge.verdict(example(source), "") == Verdict(False, named)
    assert judge.agreement(example(source), "").value == {"a": 0.1, "b": 0.2, "c": 0.3}[source]


def test_rules_decide_on_verdict_and_progress() -> None:
    """A default is left out: right for data sets with one gold value, wrong for the benchmark."""
    judge = RuleJudge(GOLD_RULES)
    assert judge.verdict(example("jsonl"), "[f(n=1)]") == Verdict(True)
    assert judge.agreement(example("jsonl"), "[f(n=1)").value == 1.0  # the name and n; unit may be left out
    assert JUDGE.verdict(example("xlam"), "[f(n=1)]") == Verdict(True)
    assert JUDGE.verdict(example("bfcl"), "[f(n=1)]") == Verdict(False, "lacks the required parameter unit")
    assert JUDGE.agreement(example("bfcl"), "[f(n=1)").value == pytest.approx(
        (2 - 1) / 3
    )  # the name and n, but no unit

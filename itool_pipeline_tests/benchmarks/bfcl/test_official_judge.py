"""The official checker as the search's judge decides what our rules decide; progress is theirs in any case."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_judge import OfficialJudge
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.types import Example, Expectation
from itool_pipeline.data.bfcl import load_bfcl
from itool_pipeline.judges.rule_judge import RuleJudge
from itool_pipeline_tests.benchmarks.bfcl.mutations import mutated_answer
from itool_pipeline_tests.core.fake_policy import call_problem

RULES = RuleJudge(BFCL_RULES)
CATEGORIES = ("simple_python", "multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance")


@pytest.fixture(scope="module")
def judge(bfcl_dir: Path) -> OfficialJudge:
    return OfficialJudge(OfficialChecker(bfcl_dir))


@pytest.fixture(scope="module")
def examples(bfcl_dir: Path) -> tuple[Example, ...]:
    return load_bfcl(bfcl_dir, CATEGORIES).examples


def test_both_judges_give_the_same_verdicts(judge: OfficialJudge, examples: tuple[Example, ...]) -> None:
    draw = random.Random(3)
    with_gold = [example for example in examples if example.gold]
    decided: Counter[tuple[Expectation, bool]] = Counter()
    for _ in range(1000):
        example = draw.choice(with_gold if draw.random() < 0.7 else examples)
        _, text = mutated_answer(example if example.gold else draw.choice(with_gold), draw)
        theirs = judge.verdict(example, text)
        assert theirs.correct is RULES.verdict(example, text).correct, text
        assert theirs.correct is not bool(theirs.error)
        assert judge.agreement(example, text) == RULES.agreement(example, text)
        decided[example.expects, theirs.correct] += 1
    assert len(decided) == 4
    assert min(decided.values()) >= 5


def test_an_example_that_is_not_in_the_wheel_is_refused(judge: OfficialJudge) -> None:
    with pytest.raises(LookupError, match="BFCL has no case 'call' in simple_python"):
        judge.verdict(call_problem().example, "[f(a=1,b=2)]")

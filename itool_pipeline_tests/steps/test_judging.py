"""The judge that the search is handed, by the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from itool_pipeline.benchmarks.bfcl.official_judge import OfficialJudge
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mistakes import ErrorType
from itool_pipeline.judges.rule_judge import RuleJudge, SourceJudge
from itool_pipeline.steps import judging
from itool_pipeline.steps.judging import mistake_type, search_judge
from itool_pipeline_tests.core.fake_policy import call_problem, text_problem
from itool_pipeline_tests.steps.by_hand import workspace


def test_each_source_is_judged_by_its_rules(tmp_path: Path) -> None:
    assert search_judge(workspace(tmp_path)) == SourceJudge({"bfcl": RuleJudge(BFCL_RULES)}, RuleJudge(GOLD_RULES))


def test_the_official_checker_may_judge_bfcl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfcl_dir: Path) -> None:
    monkeypatch.setattr(judging, "fetch_wheel", lambda wheel, downloads: bfcl_dir)
    judge = search_judge(workspace(tmp_path, search={"outcome": {"judge": "official"}}))
    assert isinstance(judge, SourceJudge)
    assert isinstance(judge.by_source["bfcl"], OfficialJudge)
    assert judge.default == RuleJudge(GOLD_RULES)


def test_the_type_of_a_mistake_by_hand() -> None:
    called, plain = call_problem().example, text_problem().example
    assert mistake_type(called, "") == ErrorType.TOOLS_COUNT
    assert mistake_type(called, "[g(a=1,b=2)]") == ErrorType.TOOL_NAME
    assert mistake_type(called, "[f(a=1,") == ErrorType.CODE_SYNTAX
    assert mistake_type(called, "[f(a=7,b=2)]") == ErrorType.PARAMETER_VALUE
    # right by the rules, and wrong to the search: silence
    assert mistake_type(plain, "") == ErrorType.OTHER


def test_a_balance_by_mistakes_needs_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="balance: by_mistake needs select_by: mistakes"):
        workspace(tmp_path, replay_buffer={"balance": "by_mistake"})

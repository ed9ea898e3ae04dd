"""The judge of the shipped experiments, and the mistakes by the rules of an example's source."""

from __future__ import annotations

from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.types import Example
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mistakes import Mistake, classify_mistake
from itool_pipeline.judges.rule_judge import RuleJudge, SourceJudge

JUDGE = SourceJudge({"bfcl": RuleJudge(BFCL_RULES)}, RuleJudge(GOLD_RULES))


def mistake_of(example: Example, response: str) -> Mistake | None:
    """Why a response is wrong."""
    return classify_mistake(BFCL_RULES if example.source == "bfcl" else GOLD_RULES, example, response)

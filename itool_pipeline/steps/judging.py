"""Who judges responses in the search: each source's own rules, and for BFCL, if asked for, its official checker."""

from __future__ import annotations

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_judge import OfficialJudge
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.judge import Judge
from itool_pipeline.core.types import Example
from itool_pipeline.data.bfcl import SOURCE
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.mistakes import ErrorType, classify_mistake
from itool_pipeline.judges.rule_judge import RuleJudge, SourceJudge
from itool_pipeline.steps.models import call_syntax
from itool_pipeline.steps.workspace import Workspace


def mistake_type(example: Example, response: str, syntax: CallSyntax = PYTHON_CALLS) -> str:
    """The type of mistake of a response that is wrong, by its source's rules.

    `other` where these find none: the search is stricter than they, and a response that was cut off may read as right.
    """
    found = classify_mistake(BFCL_RULES if example.source == SOURCE else GOLD_RULES, example, response, syntax)
    return found.type if found else ErrorType.OTHER


def search_judge(ws: Workspace) -> Judge:
    """The judge that the experiment's search is handed (`search.outcome.judge`)."""
    syntax = call_syntax(ws)
    of_bfcl: Judge = RuleJudge(BFCL_RULES, syntax)
    if ws.experiment.search.outcome.judge == "official":
        of_bfcl = OfficialJudge(OfficialChecker(fetch_wheel(BFCL, ws.paths.downloads), syntax))
    return SourceJudge({SOURCE: of_bfcl}, RuleJudge(GOLD_RULES, syntax))

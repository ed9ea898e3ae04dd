"""Who judges responses in the search: each source's own rules, and for BFCL, if asked for, its official checker."""

from __future__ import annotations

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.official_judge import OfficialJudge
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.core.judge import Judge
from itool_pipeline.data.bfcl import SOURCE
from itool_pipeline.data.wheels import BFCL, fetch_wheel
from itool_pipeline.judges.gold_rules import GOLD_RULES
from itool_pipeline.judges.rule_judge import RuleJudge, SourceJudge
from itool_pipeline.steps.workspace import Workspace


def search_judge(ws: Workspace) -> Judge:
    """The judge that the experiment's search is handed (`search.outcome.judge`)."""
    of_bfcl: Judge = RuleJudge(BFCL_RULES)
    if ws.experiment.search.outcome.judge == "official":
        of_bfcl = OfficialJudge(OfficialChecker(fetch_wheel(BFCL, ws.paths.downloads)))
    return SourceJudge({SOURCE: of_bfcl}, RuleJudge(GOLD_RULES))

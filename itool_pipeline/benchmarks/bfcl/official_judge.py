"""The official checker as the judge of whole responses; before their end, BFCL's rules tell how far it agrees."""

from __future__ import annotations

from dataclasses import dataclass

from itool_pipeline.benchmarks.bfcl.official_checker import OfficialChecker
from itool_pipeline.benchmarks.bfcl.rules import BFCL_RULES
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.judge import Agreement, Verdict
from itool_pipeline.core.types import Example
from itool_pipeline.judges.agreement import judge_agreement


@dataclass(frozen=True, slots=True)
class OfficialJudge:
    """Judges examples that are in the benchmark's wheel; held out or not does not matter to it.

    Its `verdict` raises LookupError for an example that is not.
    """

    checker: OfficialChecker

    @property
    def syntax(self) -> CallSyntax:
        return self.checker.syntax

    def verdict(self, example: Example, response: str) -> Verdict:
        decided = self.checker.check(example, response)
        return Verdict(decided.correct, decided.error)

    def agreement(self, example: Example, partial: str) -> Agreement:
        return judge_agreement(BFCL_RULES, example, partial, self.syntax)

"""The judges that are handed to the search: one by a source's rules, and one that asks each source's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from itool_pipeline.calls.python_calls import PYTHON_CALLS
from itool_pipeline.calls.syntax import CallSyntax
from itool_pipeline.core.judge import Agreement, Judge, Verdict
from itool_pipeline.core.types import Example
from itool_pipeline.judges.agreement import judge_agreement
from itool_pipeline.judges.rules import MatchingRules
from itool_pipeline.judges.verdicts import judge_response


@dataclass(frozen=True, slots=True)
class RuleJudge:
    """Verdict and agreement by one set of rules."""

    rules: MatchingRules
    syntax: CallSyntax = PYTHON_CALLS

    def verdict(self, example: Example, response: str) -> Verdict:
        return judge_response(self.rules, example, response, self.syntax)

    def agreement(self, example: Example, partial: str) -> Agreement:
        return judge_agreement(self.rules, example, partial, self.syntax)


@dataclass(frozen=True, slots=True)
class SourceJudge:
    """The judge of the example's source, or `default` where the source has none of its own."""

    by_source: Mapping[str, Judge]
    default: Judge

    @property
    def syntax(self) -> CallSyntax:
        return self.default.syntax

    def verdict(self, example: Example, response: str) -> Verdict:
        return self._of(example).verdict(example, response)

    def agreement(self, example: Example, partial: str) -> Agreement:
        return self._of(example).agreement(example, partial)

    def _of(self, example: Example) -> Judge:
        return self.by_source.get(example.source, self.default)
